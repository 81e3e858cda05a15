#include "added_tokens.h"

#include <algorithm>
#include <set>

#include "bdh/base/status_macros.h"
#include "unicode.h"

namespace bdh::tokenizer {
namespace {

const CharacterClasses& Classes() {
  return CharacterClasses::Get();
}

absl::StatusOr<AddedToken> ReadToken(const JsonPlace& place) {
  BDH_RETURN_IF_ERROR(place.WantObject());
  AddedToken token;
  BDH_ASSIGN_OR_RETURN(const int64_t id, place.At("id").Integer(0, kMaxVocabulary - 1));
  token.id = static_cast<int32_t>(id);
  BDH_ASSIGN_OR_RETURN(token.content, place.At("content").String());
  BDH_ASSIGN_OR_RETURN(token.single_word, place.At("single_word").Bool(false));
  BDH_ASSIGN_OR_RETURN(token.lstrip, place.At("lstrip").Bool(false));
  BDH_ASSIGN_OR_RETURN(token.rstrip, place.At("rstrip").Bool(false));
  BDH_ASSIGN_OR_RETURN(token.special, place.At("special").Bool(false));
  BDH_ASSIGN_OR_RETURN(token.normalized, place.At("normalized").Bool(!token.special));
  token.matched = token.content;
  return token;
}

bool TouchesWord(std::string_view text, size_t begin, size_t end) {
  if (begin > 0) {
    size_t before = PreviousUnit(text, begin);
    if (Classes().Is(NextUnit(text, before), kIsWord)) return true;
  }
  return end < text.size() && Classes().Is(NextUnit(text, end), kIsWord);
}

}  // namespace

absl::StatusOr<AddedTokens> AddedTokens::Read(const JsonPlace& place, const Vocabulary& vocabulary,
                                              const Normalizer* normalizer) {
  AddedTokens out;
  if (place.is_null()) return out;
  BDH_RETURN_IF_ERROR(place.WantArray());
  std::set<std::string> contents;
  for (size_t i = 0; i < place.json().size(); ++i) {
    const JsonPlace at = place.At(i);
    BDH_ASSIGN_OR_RETURN(AddedToken token, ReadToken(at));
    if (token.content.empty()) continue;
    if (!contents.insert(token.content).second) {
      return at.Refuse(absl::StrFormat("has '%s', which was added before", token.content));
    }
    if (!out.by_id_.emplace(token.id, 0).second) {
      return at.Refuse(absl::StrFormat("has the id %d, which was given before", token.id));
    }
    const auto known = vocabulary.Find(token.content);
    if (known.has_value() && *known != token.id) {
      return at.Refuse(absl::StrFormat("gives '%s' the id %d, but model.vocab gives it %d", token.content,
                                       token.id, *known));
    }
    if (!known.has_value() && vocabulary.Has(token.id)) {
      return at.Refuse(absl::StrFormat("gives '%s' the id %d, which model.vocab gives '%s'", token.content,
                                       token.id, vocabulary.Spelling(token.id)));
    }
    if (token.normalized && normalizer != nullptr) {
      NormalText text{token.content};
      normalizer->Apply(text);
      token.matched = std::move(text.text);
    }
    out.tokens_.push_back(std::move(token));
  }
  std::sort(out.tokens_.begin(), out.tokens_.end(),
            [](const AddedToken& a, const AddedToken& b) { return a.id < b.id; });
  for (size_t i = 0; i < out.tokens_.size(); ++i) out.by_id_[out.tokens_[i].id] = i;
  // Of those that normalising made the same, the first special one counts, else the first: added last.
  for (const bool special : {false, true}) {
    for (size_t i = out.tokens_.size(); i-- > 0;) {
      const AddedToken& token = out.tokens_[i];
      if (token.special != special || token.matched.empty()) continue;
      Matcher& matcher = out.matchers_[token.normalized ? 1 : 0];
      matcher.trie.Add(token.matched, static_cast<int32_t>(i));
      matcher.empty = false;
    }
  }
  return out;
}

const AddedToken* AddedTokens::Find(int32_t id) const {
  const auto found = by_id_.find(id);
  return found == by_id_.end() ? nullptr : &tokens_[found->second];
}

void AddedTokens::Split(std::string_view text, bool normalized, const Part& part) const {
  const Matcher& matcher = matchers_[normalized ? 1 : 0];
  size_t done = 0;
  for (size_t at = 0; at < text.size() && !matcher.empty;) {
    // The longest token that begins here.
    int32_t node = matcher.trie.Child(matcher.trie.root(), static_cast<unsigned char>(text[at]));
    if (node == ByteTrie::kNone) {
      ++at;
      continue;
    }
    int32_t found = ByteTrie::kNone;
    size_t found_end = at;
    for (size_t end = at + 1; node != ByteTrie::kNone; ++end) {
      if (matcher.trie.Value(node) != ByteTrie::kNone) {
        found = matcher.trie.Value(node);
        found_end = end;
      }
      if (end == text.size()) break;
      node = matcher.trie.Child(node, static_cast<unsigned char>(text[end]));
    }
    if (found == ByteTrie::kNone) {
      ++at;
      continue;
    }
    const AddedToken& token = tokens_[static_cast<size_t>(found)];
    size_t begin = at, end = found_end;
    at = found_end;  // The search goes on behind a match, also one that does not count.
    if (token.single_word && TouchesWord(text, begin, end)) continue;
    while (token.lstrip && begin > done) {
      const size_t before = PreviousUnit(text, begin);
      size_t unused = before;
      if (!Classes().Is(NextUnit(text, unused), kIsWhitespace)) break;
      begin = before;
    }
    if (token.lstrip) begin = std::max(begin, done);
    while (token.rstrip && end < text.size()) {
      size_t next = end;
      if (!Classes().Is(NextUnit(text, next), kIsWhitespace)) break;
      end = next;
    }
    if (end <= begin) continue;
    // As there, a token of spaces counts though the one before has taken these spaces, and what follows it in
    // them comes again.
    if (done < begin) part(text.substr(done, begin - done), nullptr, done);
    part(text.substr(begin, end - begin), &token, begin);
    done = end;
  }
  if (done < text.size()) part(text.substr(done), nullptr, done);
}

}  // namespace bdh::tokenizer
