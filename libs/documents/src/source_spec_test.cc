// Proves that the well-known sets are well-formed and that a mistake in such a file is told with its line.
#include "bdh/documents/source_spec.h"

#include <gmock/gmock.h>

#include "bdh/testing/status_matchers.h"

namespace bdh::documents {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(SourceSpec, WellKnownSetsHaveNames) {
  std::vector<std::string> names;
  for (const SourceSpec& spec : WellKnownSources()) {
    names.push_back(spec.name);
    EXPECT_FALSE(spec.description.empty() || spec.license.empty() || spec.size.empty()) << spec.name;
  }
  EXPECT_THAT(names, ElementsAre("fineweb-edu-10bt", "openwebtext", "tiny-shakespeare", "tinystories",
                                 "wikitext-103", "wikitext-2"));
  BDH_ASSERT_OK_AND_ASSIGN(const SourceSpec spec, FindWellKnownSource("fineweb-edu-10bt"));
  EXPECT_THAT(spec.sources, ElementsAre("hf://datasets/HuggingFaceFW/fineweb-edu/sample-10BT"));
  EXPECT_EQ(spec.options.score_column, "score");
  EXPECT_THAT(std::string(FindWellKnownSource("c4").status().message()),
              HasSubstr("no well-known set 'c4'; there are fineweb"));
}

TEST(SourceSpec, EveryKeyArrives) {
  BDH_ASSERT_OK_AND_ASSIGN(
      const SourceSpec spec,
      ParseSourceSpec(
          "name: mine\nsources: [/a/*.csv, /b]\nformat: csv\nutf8: repair\nsplit_text: separator\n"
          "separator: \"<|x|>\"\ndedupe: true\nmin_bytes: 10\nmin_word_share: 0.5\nmust_contain: one\n",
          "mine.yaml"));
  EXPECT_THAT(spec.sources, ElementsAre("/a/*.csv", "/b"));
  EXPECT_EQ(spec.options.format, Format::kCsv);
  EXPECT_EQ(spec.options.utf8, Utf8Policy::kRepair);
  EXPECT_EQ(spec.options.separator, "<|x|>");
  EXPECT_TRUE(spec.options.dedupe);
  EXPECT_EQ(spec.options.min_bytes, 10);
  EXPECT_EQ(spec.options.min_word_share, 0.5);
  EXPECT_THAT(spec.options.must_contain, ElementsAre("one"));
}

TEST(SourceSpec, MistakesAreToldWithTheirLine) {
  const auto refusal = [](std::string_view yaml) {
    return std::string(ParseSourceSpec(yaml, "s.yaml").status().message());
  };
  EXPECT_THAT(refusal("name: a\nsource: /a\ncolum: x\n"),
              HasSubstr("s.yaml:3: colum: unknown key; want one of column, "));
  EXPECT_THAT(refusal("name: a\nsource: /a\nformat: docx\n"),
              HasSubstr("s.yaml:3: format: format is 'docx'; want one of"));
  EXPECT_THAT(refusal("name: a\nsource: /a\nmin_bytes: many\n"),
              HasSubstr("s.yaml:3: min_bytes: want a number"));
  EXPECT_THAT(refusal("name: a\nsource: {a: b}\n"), HasSubstr("s.yaml:2: source: want a text or a list"));
  EXPECT_THAT(refusal("name: A b\nsource: /a\n"), HasSubstr("s.yaml: name is 'A b'; want 1 to 64"));
  EXPECT_THAT(refusal("name: a\n"), HasSubstr("there is no source"));
  EXPECT_THAT(refusal("name: a\nsource: /a\nseparator: x\n"), HasSubstr("split is not 'separator'"));
  EXPECT_THAT(refusal("name: [\n"), HasSubstr("s.yaml:"));
  EXPECT_THAT(refusal("- a\n"), HasSubstr("want keys and values"));
}

}  // namespace
}  // namespace bdh::documents
