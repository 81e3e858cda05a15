// Byte pair encoding. The pair of the lowest rank is merged first, of equal ones the leftmost, until none is
// left. Words repeat, so each thread remembers what it made of short ones.
#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <queue>
#include <utility>

#include "bdh/base/status_macros.h"
#include "models.h"
#include "normalizers.h"
#include "utf8.h"

namespace bdh::tokenizer {
namespace {

struct Merge {
  uint32_t rank;
  int32_t id;
};
constexpr uint32_t kNoRank = UINT32_MAX;

// Pairs of ids to merges: open addressing, no erasure. Empty slots have no rank.
class MergeTable {
 public:
  void Reserve(size_t merges) {
    size_t slots = 16;
    while (slots < merges * 2) slots *= 2;
    slots_.assign(slots, {0, {kNoRank, 0}});
    shift_ = 64 - __builtin_ctzll(slots);
  }
  // A pair that is given again takes the later rank, as a map would.
  void Set(int32_t left, int32_t right, Merge merge) {
    const uint64_t key = Key(left, right);
    for (size_t slot = Home(key);; slot = (slot + 1) & (slots_.size() - 1)) {
      if (slots_[slot].merge.rank != kNoRank && slots_[slot].key != key) continue;
      slots_[slot] = {key, merge};
      return;
    }
  }
  Merge Get(int32_t left, int32_t right) const {
    const uint64_t key = Key(left, right);
    for (size_t slot = Home(key);; slot = (slot + 1) & (slots_.size() - 1)) {
      const Slot& found = slots_[slot];
      if (found.key == key || found.merge.rank == kNoRank)
        return found.key == key ? found.merge : Merge{kNoRank, 0};
    }
  }

 private:
  struct Slot {
    uint64_t key;
    Merge merge;
  };
  static uint64_t Key(int32_t left, int32_t right) {
    return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
  }
  size_t Home(uint64_t key) const { return (key * 0x9E3779B97F4A7C15u) >> shift_; }

  std::vector<Slot> slots_;
  int shift_ = 60;
};

// What this thread made of short words lately. One table for all tokenizers of the thread: entries say whose
// they are, and a newer word takes the place of an older one.
class WordCache {
 public:
  static constexpr size_t kMaxBytes = 24, kMaxIds = 8;
  struct Key {
    uint64_t part[3];
    size_t slot;
  };

  static WordCache& OfThread() {
    static thread_local WordCache cache;
    return cache;
  }

  // `word` has 1 to kMaxBytes bytes and lies in a buffer that ends at `end`.
  static Key KeyOf(std::string_view word, const char* end) {
    Key key{{0, 0, 0}, 0};
    if (word.data() + kMaxBytes <= end) {
      // Loads past the word, then clears what is not of it: no copy of unknown length.
      std::memcpy(key.part, word.data(), kMaxBytes);
      const size_t bits = word.size() * 8;
      key.part[0] &= Mask(bits);
      key.part[1] &= bits > 64 ? Mask(bits - 64) : 0;
      key.part[2] &= bits > 128 ? Mask(bits - 128) : 0;
    } else {
      std::memcpy(key.part, word.data(), word.size());
    }
    uint64_t hash = (key.part[0] ^ word.size()) * 0x9E3779B97F4A7C15u;
    hash = (hash ^ (hash >> 32) ^ key.part[1]) * 0xD6E8FEB86659FD93u;
    hash = (hash ^ (hash >> 32) ^ key.part[2]) * 0x9E3779B97F4A7C15u;
    key.slot = hash >> (64 - kSlotBits);
    return key;
  }

  // Appends and returns true where the word is known.
  bool Find(const Key& key, size_t size, uint32_t owner, std::vector<int32_t>& ids) const {
    const Entry& entry = entries_[key.slot];
    const bool hit = entry.key[0] == key.part[0] && entry.key[1] == key.part[1] &&
                     entry.key[2] == key.part[2] && entry.owner == owner && entry.size == size;
    if (!hit) return false;
    ids.insert(ids.end(), entry.ids, entry.ids + entry.count);
    return true;
  }

  void Put(const Key& key, size_t size, uint32_t owner, const int32_t* ids, size_t count) {
    if (count > kMaxIds) return;
    Entry& entry = entries_[key.slot];
    std::copy(key.part, key.part + 3, entry.key);
    entry.owner = owner;
    entry.size = static_cast<uint8_t>(size);
    entry.count = static_cast<uint8_t>(count);
    std::copy(ids, ids + count, entry.ids);
  }

 private:
  static constexpr int kSlotBits = 14;
  struct alignas(64) Entry {
    uint64_t key[3];
    uint32_t owner;  // 0: nobody's.
    uint8_t size, count;
    int32_t ids[kMaxIds];
  };
  static uint64_t Mask(size_t bits) { return bits >= 64 ? ~uint64_t{0} : (uint64_t{1} << bits) - 1; }

  WordCache() : entries_(size_t{1} << kSlotBits) {}
  std::vector<Entry> entries_;
};

std::atomic<uint32_t> next_owner{1};

class BpeModel : public Model {
 public:
  Kind kind() const override { return Kind::kBpe; }
  const Vocabulary& vocabulary() const override { return vocabulary_; }
  bool takes_bytes() const override { return takes_bytes_; }

  void Encode(std::string_view piece, std::vector<int32_t>& ids) const override {
    if (ignore_merges_) {
      if (const auto id = vocabulary_.Find(piece); id.has_value()) {
        ids.push_back(*id);
        return;
      }
    }
    WithCache(piece, piece.data() + piece.size(), ids,
              [&](std::vector<int32_t>& out) { Symbols(piece, out); });
  }

  void EncodeBytes(std::string_view bytes, const char* end, std::vector<int32_t>& ids) const override {
    WithCache(bytes, end, ids, [&](std::vector<int32_t>& out) {
      if (ignore_merges_) {
        std::string mapped;
        AppendMappedBytes(bytes, mapped);
        if (const auto id = vocabulary_.Find(mapped); id.has_value()) {
          out.push_back(*id);
          return;
        }
      }
      for (const char byte : bytes) {
        const int32_t id = byte_ids_[static_cast<unsigned char>(byte)];
        if (id >= 0) out.push_back(id);
      }
    });
  }

  absl::Status Read(const JsonPlace& place);

 private:
  template <class MakeSymbols>
  void WithCache(std::string_view word, const char* end, std::vector<int32_t>& ids,
                 const MakeSymbols& make) const {
    const bool cached = !word.empty() && word.size() <= WordCache::kMaxBytes;
    WordCache& cache = WordCache::OfThread();
    WordCache::Key key{};
    if (cached) {
      key = WordCache::KeyOf(word, end);
      if (cache.Find(key, word.size(), owner_, ids)) return;
    }
    const size_t begin = ids.size();
    make(ids);
    MergeAll(ids, begin);
    if (cached) cache.Put(key, word.size(), owner_, ids.data() + begin, ids.size() - begin);
  }

  void Symbols(std::string_view piece, std::vector<int32_t>& ids) const;
  void MergeAll(std::vector<int32_t>& ids, size_t begin) const;
  void MergeFew(int32_t* ids, size_t& count) const;
  void MergeMany(std::vector<int32_t>& ids, size_t begin) const;
  absl::Status ReadMerges(const JsonPlace& place);
  absl::Status AddMerge(std::string_view left, std::string_view right, uint32_t rank, const JsonPlace& place);

  Vocabulary vocabulary_;
  MergeTable merges_;
  std::optional<std::string> prefix_, suffix_;
  std::optional<int32_t> unknown_;
  bool fuse_unknown_ = false, ignore_merges_ = false, takes_bytes_ = false;
  std::vector<int32_t> fallback_;  // Ids of "<0x00>" and so on; empty: no fallback to bytes.
  std::array<int32_t, 256> byte_ids_{};
  const uint32_t owner_ = next_owner.fetch_add(1);
};

// One symbol a character, before merging.
void BpeModel::Symbols(std::string_view piece, std::vector<int32_t>& ids) const {
  std::string changed;
  // As there, an unknown one waits for the next that is known, and bytes that are fallen back on pass it.
  bool unknown_waits = false;
  for (size_t at = 0; at < piece.size();) {
    const size_t begin = at;
    NextUnit(piece, at);
    std::string_view character = piece.substr(begin, at - begin);
    if ((begin > 0 && prefix_.has_value()) || (at == piece.size() && suffix_.has_value())) {
      changed = begin > 0 ? prefix_.value_or("") : "";
      changed += character;
      if (at == piece.size()) changed += suffix_.value_or("");
      character = changed;
    }
    if (const auto id = vocabulary_.Find(character); id.has_value()) {
      if (std::exchange(unknown_waits, false)) ids.push_back(*unknown_);
      ids.push_back(*id);
      continue;
    }
    if (!fallback_.empty()) {
      const auto has = [&](char byte) { return fallback_[static_cast<unsigned char>(byte)] >= 0; };
      if (std::all_of(character.begin(), character.end(), has)) {
        for (const char byte : character) ids.push_back(fallback_[static_cast<unsigned char>(byte)]);
        continue;
      }
    }
    if (!unknown_.has_value()) continue;
    if (unknown_waits && !fuse_unknown_) ids.push_back(*unknown_);
    unknown_waits = true;
  }
  if (unknown_waits) ids.push_back(*unknown_);
}

void BpeModel::MergeAll(std::vector<int32_t>& ids, size_t begin) const {
  constexpr size_t kFew = 96;
  size_t count = ids.size() - begin;
  if (count < 2) return;
  if (count > kFew) return MergeMany(ids, begin);
  MergeFew(ids.data() + begin, count);
  ids.resize(begin + count);
}

void BpeModel::MergeFew(int32_t* ids, size_t& count) const {
  Merge pairs[96];  // pairs[i] merges ids[i] and ids[i + 1].
  size_t last = count - 1;
  for (size_t i = 0; i < last; ++i) pairs[i] = merges_.Get(ids[i], ids[i + 1]);
  while (last > 0) {
    size_t best = 0;
    for (size_t i = 1; i < last; ++i) {
      if (pairs[i].rank < pairs[best].rank) best = i;
    }
    if (pairs[best].rank == kNoRank) break;
    ids[best] = pairs[best].id;
    --last;
    for (size_t i = best + 1; i <= last; ++i) ids[i] = ids[i + 1];
    for (size_t i = best + 1; i < last; ++i) pairs[i] = pairs[i + 1];
    if (best < last) pairs[best] = merges_.Get(ids[best], ids[best + 1]);
    if (best > 0) pairs[best - 1] = merges_.Get(ids[best - 1], ids[best]);
  }
  count = last + 1;
}

// The same with a heap: a piece may be a whole file.
void BpeModel::MergeMany(std::vector<int32_t>& ids, size_t begin) const {
  struct Candidate {
    uint32_t rank, at;
    int32_t id;
    bool operator>(const Candidate& other) const {
      return rank != other.rank ? rank > other.rank : at > other.at;
    }
  };
  const size_t count = ids.size() - begin;
  int32_t* const symbols = ids.data() + begin;
  constexpr uint32_t kNone = UINT32_MAX;
  std::vector<uint32_t> next(count), previous(count);
  for (size_t i = 0; i < count; ++i) {
    next[i] = i + 1 < count ? static_cast<uint32_t>(i + 1) : kNone;
    previous[i] = i > 0 ? static_cast<uint32_t>(i - 1) : kNone;
  }
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> heap;
  const auto push = [&](uint32_t at) {
    if (at == kNone || next[at] == kNone) return;
    const Merge merge = merges_.Get(symbols[at], symbols[next[at]]);
    if (merge.rank != kNoRank) heap.push({merge.rank, at, merge.id});
  };
  for (uint32_t i = 0; i < count; ++i) push(i);
  constexpr int32_t kGone = -1;
  while (!heap.empty()) {
    const Candidate top = heap.top();
    heap.pop();
    const uint32_t right = symbols[top.at] == kGone ? kNone : next[top.at];
    if (right == kNone) continue;
    const Merge merge = merges_.Get(symbols[top.at], symbols[right]);
    if (merge.rank == kNoRank || merge.id != top.id) continue;  // Of a pair that is no more.
    symbols[top.at] = merge.id;
    symbols[right] = kGone;
    next[top.at] = next[right];
    if (next[right] != kNone) previous[next[right]] = top.at;
    push(previous[top.at]);
    push(top.at);
  }
  ids.erase(std::remove(ids.begin() + static_cast<std::ptrdiff_t>(begin), ids.end(), kGone), ids.end());
}

absl::Status BpeModel::AddMerge(std::string_view left, std::string_view right, uint32_t rank,
                                const JsonPlace& place) {
  const auto left_id = vocabulary_.Find(left), right_id = vocabulary_.Find(right);
  for (const auto& [id, part] : {std::pair(left_id, left), std::pair(right_id, right)}) {
    if (!id.has_value())
      return place.Refuse(absl::StrFormat("merges '%s', which is not in model.vocab", part));
  }
  std::string_view rest = right;
  rest.remove_prefix(std::min(rest.size(), prefix_.value_or("").size()));
  const std::string merged = std::string(left) + std::string(rest);
  const auto id = vocabulary_.Find(merged);
  if (!id.has_value())
    return place.Refuse(absl::StrFormat("makes '%s', which is not in model.vocab", merged));
  merges_.Set(*left_id, *right_id, {rank, *id});
  return absl::OkStatus();
}

absl::Status BpeModel::ReadMerges(const JsonPlace& place) {
  BDH_RETURN_IF_ERROR(place.WantArray());
  const Json& list = place.json();
  constexpr size_t kMaxMerges = 4 * static_cast<size_t>(kMaxVocabulary);
  if (list.size() > kMaxMerges) return place.Refuse(absl::StrFormat("has more than %d merges", kMaxMerges));
  merges_.Reserve(list.size());
  uint32_t rank = 0;
  for (size_t i = 0; i < list.size(); ++i) {
    const JsonPlace at = place.At(i);
    const Json& merge = list[i];
    if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
      BDH_RETURN_IF_ERROR(AddMerge(merge[0].get_ref<const std::string&>(),
                                   merge[1].get_ref<const std::string&>(), rank++, at));
      continue;
    }
    if (!merge.is_string()) return at.Refuse("is neither a text nor a pair of texts");
    const std::string_view text = merge.get_ref<const std::string&>();
    if (text.starts_with("#version")) continue;
    const size_t space = text.find(' ');
    if (space == std::string_view::npos || text.find(' ', space + 1) != std::string_view::npos) {
      return at.Refuse("is not two tokens with one space between them");
    }
    BDH_RETURN_IF_ERROR(AddMerge(text.substr(0, space), text.substr(space + 1), rank++, at));
  }
  return absl::OkStatus();
}

absl::Status BpeModel::Read(const JsonPlace& place) {
  BDH_ASSIGN_OR_RETURN(vocabulary_, ReadVocabulary(place.At("vocab")));
  const auto read_text = [&](const char* key, std::optional<std::string>& out) -> absl::Status {
    const JsonPlace field = place.At(key);
    if (field.is_null()) return absl::OkStatus();
    BDH_ASSIGN_OR_RETURN(std::string text, field.String());
    if (!text.empty()) out = std::move(text);
    return absl::OkStatus();
  };
  BDH_RETURN_IF_ERROR(read_text("continuing_subword_prefix", prefix_));
  BDH_RETURN_IF_ERROR(read_text("end_of_word_suffix", suffix_));
  BDH_RETURN_IF_ERROR(ReadMerges(place.At("merges")));
  std::optional<std::string> unknown;
  BDH_RETURN_IF_ERROR(read_text("unk_token", unknown));
  if (unknown.has_value()) {
    unknown_ = vocabulary_.Find(*unknown);
    if (!unknown_.has_value())
      return place.At("unk_token").Refuse(absl::StrFormat("is '%s', which is not in model.vocab", *unknown));
  }
  if (const Json& dropout = place.At("dropout").json(); !dropout.is_null() && dropout != 0.0) {
    return place.At("dropout").Refuse(
        "is set; merges that are left out by chance are for training there, remove it");
  }
  BDH_ASSIGN_OR_RETURN(fuse_unknown_, place.At("fuse_unk").Bool(false));
  BDH_ASSIGN_OR_RETURN(ignore_merges_, place.At("ignore_merges").Bool(false));
  BDH_ASSIGN_OR_RETURN(const bool fallback, place.At("byte_fallback").Bool(false));
  if (fallback) fallback_ = ByteTokens(vocabulary_);

  takes_bytes_ = !prefix_.has_value() && !suffix_.has_value() && !fallback;
  for (unsigned byte = 0; byte < 256; ++byte) {
    const char c = static_cast<char>(byte);
    std::string mapped;
    AppendMappedBytes(std::string_view(&c, 1), mapped);
    byte_ids_[byte] = vocabulary_.Find(mapped).value_or(-1);
    if (byte_ids_[byte] < 0 && unknown_.has_value()) takes_bytes_ = false;
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::shared_ptr<const Model>> ReadBpe(const JsonPlace& place) {
  auto model = std::make_shared<BpeModel>();
  BDH_RETURN_IF_ERROR(model->Read(place));
  return model;
}

}  // namespace bdh::tokenizer
