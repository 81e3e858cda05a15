// Every relative link of every page leads to a file that is there, and to a heading that the file has.

#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <string>
#include <vector>

namespace bdh {
namespace {

namespace fs = std::filesystem;

std::string TextOf(const fs::path& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

std::vector<fs::path> Pages(const fs::path& root) {
  std::vector<fs::path> pages;
  for (const auto& entry : fs::directory_iterator(root)) {
    const std::string name = entry.path().filename();
    if (entry.is_directory() && !name.starts_with(".") && name != "build") {
      for (const fs::path& page : Pages(entry.path())) pages.push_back(page);
    } else if (entry.path().extension() == ".md") {
      pages.push_back(entry.path());
    }
  }
  return pages;
}

// What stands between ``` is a terminal's, not a page's.
std::vector<std::string> LinesOutsideOfCode(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  bool code = false;
  for (std::string line; std::getline(stream, line);) {
    if (line.starts_with("```")) {
      code = !code;
    } else if (!code) {
      lines.push_back(line);
    }
  }
  return lines;
}

// "## The mesh, drawn" -> "the-mesh-drawn", as GitHub makes it.
std::string Anchor(const std::string& heading) {
  std::string anchor;
  for (const char c : heading.substr(heading.find_first_not_of("# "))) {
    const unsigned char letter = static_cast<unsigned char>(c);
    if (std::isalnum(letter) || letter >= 128 || c == '-' || c == '_')
      anchor += static_cast<char>(std::tolower(letter));
    if (c == ' ') anchor += '-';
  }
  return anchor;
}

std::set<std::string> Anchors(const fs::path& page) {
  std::set<std::string> anchors;
  for (const std::string& line : LinesOutsideOfCode(TextOf(page))) {
    if (line.starts_with("#")) anchors.insert(Anchor(line));
  }
  return anchors;
}

// What stands in "](...)", unless it has a blank in it.
std::vector<std::string> Links(const std::string& text) {
  std::vector<std::string> links;
  for (const std::string& line : LinesOutsideOfCode(text)) {
    for (size_t at = line.find("]("); at != std::string::npos; at = line.find("](", at + 2)) {
      const std::string link = line.substr(at + 2, line.find(')', at) - at - 2);
      if (!link.empty() && link.find(' ') == std::string::npos) links.push_back(link);
    }
  }
  return links;
}

// What is wrong with it, or "".
std::string Trouble(const fs::path& page, const std::string& link) {
  if (link.starts_with("http://") || link.starts_with("https://") || link.starts_with("mailto:")) return "";
  const size_t hash = link.find('#');
  const fs::path file = hash == 0 ? page : page.parent_path() / link.substr(0, hash);
  if (!fs::exists(file)) return "there is no " + file.lexically_normal().string();
  if (hash == std::string::npos || Anchors(file).contains(link.substr(hash + 1))) return "";
  return "no heading there makes the anchor #" + link.substr(hash + 1);
}

TEST(Docs, EveryRelativeLinkLeadsSomewhere) {
  const std::vector<fs::path> pages = Pages(BDH_SOURCE_DIR);
  ASSERT_GE(pages.size(), 8u);
  size_t links = 0;
  for (const fs::path& page : pages) {
    for (const std::string& link : Links(TextOf(page))) {
      ++links;
      EXPECT_EQ(Trouble(page, link), "") << page << " links to " << link;
    }
  }
  EXPECT_GE(links, 10u);
}

// Otherwise the test above could not fail.
TEST(Docs, ABrokenLinkIsSeen) {
  const fs::path readme = fs::path(BDH_SOURCE_DIR) / "README.md";
  EXPECT_EQ(Trouble(readme, "docs/cli.md"), "");
  EXPECT_EQ(Trouble(readme, "https://example.org/none"), "");
  EXPECT_NE(Trouble(readme, "docs/none.md"), "");
  EXPECT_NE(Trouble(readme, "docs/cli.md#no-such-heading"), "");
  EXPECT_EQ(Links("a [b](c.md) and\n```\n[d](e)\n```\n[f](g#h)"), (std::vector<std::string>{"c.md", "g#h"}));
  EXPECT_EQ(Anchor("## The mesh, drawn"), "the-mesh-drawn");
}

}  // namespace
}  // namespace bdh
