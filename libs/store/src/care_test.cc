// Caring for what is kept: uploads that resume, notes and labels, pins, retention, blobs and records in one
// step, verification and healing, usage, collection, backups; and a folder of the first format.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <set>
#include <thread>

#include "bdh/store/store.h"
#include "bdh/testing/status_matchers.h"
#include "bdh/testing/temp_directory.h"
#include "digest.h"
#include "store_fixture.h"

namespace bdh::store {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

constexpr char kA[] = "runs/a/steps/1", kB[] = "runs/a/steps/2";

class CareTest : public StoreFixture {
 protected:
  absl::Status PutEmpty(const std::string& name, std::optional<double> loss = {}) {
    Content content;
    content.checkpoint.name = name;
    content.checkpoint.loss = loss;
    return Put(*store_, content).status();
  }
  absl::StatusOr<BlobUpload::Result> PutBlob(const std::string& bytes, const BlobUpload::Owner& owner) {
    auto upload = store_->BeginBlob("snapshots/s", 1 << 30);
    if (!upload.ok()) return upload.status();
    for (size_t i = 0; i < bytes.size(); i += 50'000) {
      if (const auto status = (*upload)->Add(std::string_view(bytes).substr(i, 50'000)); !status.ok())
        return status;
    }
    return (*upload)->Commit(owner);
  }
  absl::StatusOr<std::string> GetBlob(uint64_t id) {
    auto reader = store_->ReadBlob(id);
    if (!reader.ok()) return reader.status();
    std::string out;
    while (true) {
      auto piece = (*reader)->Next();
      if (!piece.ok()) return piece.status();
      if (!piece->has_value()) return out;
      out += **piece;
    }
  }
};

// The chunks of a content, as a client cuts them.
struct Cut {
  std::vector<TensorDigests> tensors;
  std::vector<std::string> digests, bytes;
};

Cut CutUp(const Content& content) {
  Cut cut;
  Sha256 sha;
  for (size_t i = 0; i < content.bytes.size(); ++i) {
    TensorDigests& tensor = cut.tensors.emplace_back();
    tensor.tensor = content.checkpoint.tensors[i].name;
    for (size_t at = 0; at < content.bytes[i].size(); at += kChunk) {
      cut.bytes.push_back(content.bytes[i].substr(at, kChunk));
      cut.digests.emplace_back(sha.Of(cut.bytes.back()).view());
      tensor.digests.push_back(cut.digests.back());
    }
  }
  return cut;
}

TEST_F(CareTest, AnUploadResumesAndSendsOnlyWhatIsMissing) {
  const Content content = SomeContent(kA, 1);
  const Cut cut = CutUp(content);
  BDH_ASSERT_OK_AND_ASSIGN(auto missing, store_->FindMissingChunks("up", cut.digests));
  EXPECT_EQ(missing.size(), cut.digests.size());
  for (size_t i = 0; i < 3; ++i) {
    BDH_ASSERT_OK_AND_ASSIGN(const int64_t fresh, store_->PutChunk("up", cut.digests[i], cut.bytes[i]));
    EXPECT_EQ(fresh, static_cast<int64_t>(cut.bytes[i].size()));
  }
  BDH_ASSERT_OK(store_->SyncChunks());
  EXPECT_EQ(*store_->PutChunk("up", cut.digests[0], cut.bytes[0]), 0);
  const auto early = store_->CommitUpload("up", content.checkpoint, cut.tensors).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(early)) << early;
  // Client and daemon die.
  Open();
  EXPECT_EQ(store_->totals().named_uploads, 1);
  BDH_ASSERT_OK_AND_ASSIGN(missing, store_->FindMissingChunks("up", cut.digests));
  EXPECT_EQ(missing.size(), cut.digests.size() - 3);
  for (const int i : missing) BDH_ASSERT_OK(store_->PutChunk("up", cut.digests[i], cut.bytes[i]).status());
  BDH_ASSERT_OK_AND_ASSIGN(const auto result, store_->CommitUpload("up", content.checkpoint, cut.tensors));
  EXPECT_EQ(result.stored_bytes, 400'008);
  ExpectWhole(content);
  EXPECT_EQ(store_->totals().named_uploads, 0);
  EXPECT_TRUE(absl::IsNotFound(store_->PutChunk("up", cut.digests[0], cut.bytes[0]).status()));
  // The stream makes the same checkpoint.
  BDH_ASSERT_OK_AND_ASSIGN(const auto streamed, Put(*store_, content));
  EXPECT_EQ(streamed.checkpoint.digest, result.checkpoint.digest);

  // What the store has is not asked for again.
  Content next = SomeContent(kB, 2);
  const Cut next_cut = CutUp(next);
  BDH_ASSERT_OK_AND_ASSIGN(missing, store_->FindMissingChunks("next", next_cut.digests));
  EXPECT_LT(missing.size(), next_cut.digests.size());  // "frozen" is shared.
  BDH_ASSERT_OK_AND_ASSIGN(const auto list, store_->ListChunks(kA));
  EXPECT_EQ(list.chunks[0].digests, cut.tensors[0].digests);
}

TEST_F(CareTest, ANamedUploadRefusesWhatDoesNotFit) {
  const Content content = SomeContent(kA, 1);
  Cut cut = CutUp(content);
  EXPECT_TRUE(absl::IsInvalidArgument(store_->FindMissingChunks("a b", {}).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(store_->FindMissingChunks("up", {"short"}).status()));
  EXPECT_TRUE(absl::IsNotFound(store_->PutChunk("none", cut.digests[0], cut.bytes[0]).status()));
  BDH_ASSERT_OK(store_->FindMissingChunks("up", {}).status());
  const auto lie = store_->PutChunk("up", cut.digests[0], cut.bytes[1]).status();
  EXPECT_TRUE(absl::IsInvalidArgument(lie));
  EXPECT_THAT(std::string(lie.message()), HasSubstr("do not have the SHA-256"));
  EXPECT_TRUE(absl::IsInvalidArgument(store_->PutChunk("up", cut.digests[0], "").status()));
  for (size_t i = 0; i < cut.bytes.size(); ++i) {
    BDH_ASSERT_OK(store_->PutChunk("up", cut.digests[i], cut.bytes[i]).status());
  }
  auto swapped = cut.tensors;
  std::swap(swapped[0].digests.back(), swapped[1].digests.front());
  const auto size = store_->CommitUpload("up", content.checkpoint, swapped).status();
  EXPECT_TRUE(absl::IsInvalidArgument(size)) << size;
  EXPECT_THAT(std::string(size.message()), HasSubstr("its place demands"));
  auto fewer = cut.tensors;
  fewer[0].digests.pop_back();
  EXPECT_TRUE(absl::IsInvalidArgument(store_->CommitUpload("up", content.checkpoint, fewer).status()));
  fewer.pop_back();
  EXPECT_TRUE(absl::IsInvalidArgument(store_->CommitUpload("up", content.checkpoint, fewer).status()));
  BDH_ASSERT_OK(store_->CommitUpload("up", content.checkpoint, cut.tensors).status());
  ExpectWhole(content);
}

TEST_F(CareTest, AQuietUploadEndsAndItsChunksGo) {
  const Cut cut = CutUp(SomeContent(kA, 1));
  BDH_ASSERT_OK(store_->FindMissingChunks("up", {}).status());
  for (size_t i = 0; i < cut.bytes.size(); ++i) {
    BDH_ASSERT_OK(store_->PutChunk("up", cut.digests[i], cut.bytes[i]).status());
  }
  EXPECT_EQ(Audit().orphans, static_cast<int64_t>(cut.bytes.size()));
  BDH_ASSERT_OK(store_->CollectGarbage(false).status());
  EXPECT_EQ(Audit().orphans, static_cast<int64_t>(cut.bytes.size()));
  now_ += absl::Hours(1);
  BDH_ASSERT_OK(store_->CollectGarbage(false).status());
  EXPECT_EQ(Audit().orphans, 0);
  EXPECT_EQ(store_->totals().named_uploads, 0);
}

TEST_F(CareTest, ATagRemembersWhereItPointed) {
  BDH_ASSERT_OK(PutEmpty(kA));
  BDH_ASSERT_OK(PutEmpty(kB));
  EXPECT_TRUE(absl::IsNotFound(store_->TagHistory("prod", 10).status()));
  BDH_ASSERT_OK(store_->SetTag("prod", kA));
  BDH_ASSERT_OK(store_->SetTag("prod", kB));
  BDH_ASSERT_OK(store_->DeleteTag("prod"));
  Open();
  BDH_ASSERT_OK(store_->SetTag("prod", kA));
  BDH_ASSERT_OK_AND_ASSIGN(const auto history, store_->TagHistory("prod", 1000));
  ASSERT_EQ(history.size(), 4u);
  EXPECT_EQ(history[0].checkpoint, kA);
  EXPECT_EQ(history[1].checkpoint, "");
  EXPECT_EQ(history[2].checkpoint, kB);
  EXPECT_GT(history[0].time, history[3].time);
  BDH_ASSERT_OK_AND_ASSIGN(const auto newest, store_->TagHistory("prod", 1));
  EXPECT_THAT(newest, SizeIs(1));
  EXPECT_TRUE(absl::IsNotFound(store_->TagHistory("pro", 10).status()));
}

TEST_F(CareTest, ATagRemembersItsLastThousandChanges) {
  BDH_ASSERT_OK(PutEmpty(kA));
  for (int i = 0; i < 1010; ++i) BDH_ASSERT_OK(store_->SetTag("t", kA));
  BDH_ASSERT_OK_AND_ASSIGN(const auto history, store_->TagHistory("t", 1000));
  EXPECT_THAT(history, SizeIs(1000));
  BDH_ASSERT_OK_AND_ASSIGN(const auto records, store_->ScanRecords("_tag_changes", "", "", 5000));
  EXPECT_THAT(records, SizeIs(1000));
}

TEST_F(CareTest, NotesAreFoundByTheirLabels) {
  for (int i = 0; i < 30; ++i) BDH_ASSERT_OK(PutEmpty(CheckpointName(i % 2 == 0 ? "even" : "odd", i)));
  for (int i = 0; i < 30; i += 3) {
    BDH_ASSERT_OK(
        store_->Annotate(CheckpointName(i % 2 == 0 ? "even" : "odd", i),
                         {.text = "third", .labels = {{"kind", "third"}, {"n", std::to_string(i)}}}));
  }
  std::vector<std::string> found;
  std::string token;
  do {
    BDH_ASSERT_OK_AND_ASSIGN(const auto page, store_->Search({{"kind", "third"}}, "even", 2, token));
    ASSERT_EQ(page.notes.size(), page.checkpoints.size());
    for (const Checkpoint& checkpoint : page.checkpoints) found.push_back(checkpoint.name);
    for (const Note& note : page.notes) EXPECT_EQ(note.text, "third");
    token = page.next_token;
  } while (!token.empty());
  EXPECT_THAT(found, ElementsAre("runs/even/steps/24", "runs/even/steps/18", "runs/even/steps/12",
                                 "runs/even/steps/6", "runs/even/steps/0"));
  BDH_ASSERT_OK_AND_ASSIGN(const auto one, store_->Search({{"kind", "third"}, {"n", "9"}}, "", 10, ""));
  EXPECT_THAT(one.checkpoints, SizeIs(1));
  // A note goes with its checkpoint.
  BDH_ASSERT_OK(store_->Delete("runs/odd/steps/9").status());
  BDH_ASSERT_OK(PutEmpty("runs/odd/steps/9"));
  EXPECT_EQ(store_->GetNote("runs/odd/steps/9")->text, "");
  EXPECT_TRUE(absl::IsInvalidArgument(store_->Annotate(kA, {.text = std::string(4097, 'x')})));
  EXPECT_TRUE(absl::IsInvalidArgument(store_->Annotate(kA, {.labels = {{"", "x"}}})));
  EXPECT_TRUE(absl::IsNotFound(store_->Annotate(kA, {.text = "x"})));
}

TEST_F(CareTest, APinnedCheckpointStaysUntilThePinEnds) {
  BDH_ASSERT_OK(PutEmpty(kA));
  BDH_ASSERT_OK(store_->SetTag("t", kA));
  BDH_ASSERT_OK_AND_ASSIGN(const Pin pin, store_->PinCheckpoint("t", "host:1", absl::Minutes(10)));
  EXPECT_EQ(pin.checkpoint, kA);
  BDH_ASSERT_OK(store_->DeleteTag("t"));
  Open();
  const auto refused = store_->Delete(kA).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(refused));
  EXPECT_THAT(std::string(refused.message()), HasSubstr("host:1 has pinned it until 2001-09-09"));
  EXPECT_THAT(*store_->ListPins(), SizeIs(1));
  BDH_ASSERT_OK(store_->Unpin(kA, "host:2"));
  EXPECT_FALSE(store_->Delete(kA).ok());
  BDH_ASSERT_OK(store_->Unpin(kA, "host:1"));
  BDH_ASSERT_OK(store_->PinCheckpoint(kA, "host:3", absl::Minutes(1)).status());
  now_ += absl::Minutes(1);
  EXPECT_THAT(*store_->ListPins(), IsEmpty());
  BDH_ASSERT_OK(store_->Delete(kA).status());
  EXPECT_TRUE(absl::IsInvalidArgument(store_->PinCheckpoint(kA, "", absl::Minutes(1)).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(store_->PinCheckpoint(kA, "x", absl::Hours(2)).status()));
  EXPECT_TRUE(absl::IsNotFound(store_->PinCheckpoint(kA, "x", absl::Minutes(1)).status()));
}

TEST_F(CareTest, RetentionKeepsWhatItSaysAndWhatIsInUse) {
  for (int i = 1; i <= 10; ++i) BDH_ASSERT_OK(PutEmpty(CheckpointName("a", 100 * i), i == 3 ? 0.5 : 10.0));
  BDH_ASSERT_OK(PutEmpty("runs/b/steps/1"));
  BDH_ASSERT_OK(store_->SetTag("prod", CheckpointName("a", 200)));
  BDH_ASSERT_OK(store_->PinCheckpoint(CheckpointName("a", 100), "host", absl::Minutes(30)).status());
  EXPECT_TRUE(absl::IsFailedPrecondition(store_->ApplyRetention("", true).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(store_->SetRetention("a", RetentionPolicy{})));
  EXPECT_TRUE(absl::IsInvalidArgument(store_->SetRetention("a", RetentionPolicy{.keep_last = -1})));
  BDH_ASSERT_OK(
      store_->SetRetention("a", RetentionPolicy{.keep_last = 2, .keep_every_steps = 400, .keep_best = 1}));
  const std::vector<std::string> want = {CheckpointName("a", 500), CheckpointName("a", 600),
                                         CheckpointName("a", 700)};
  BDH_ASSERT_OK_AND_ASSIGN(const auto dry, store_->ApplyRetention("a", true));
  EXPECT_EQ(dry.deleted, want);
  EXPECT_EQ(Names().size(), 11u);
  BDH_ASSERT_OK_AND_ASSIGN(const auto real, store_->ApplyRetention("", false));
  EXPECT_EQ(real.deleted, want);
  EXPECT_EQ(Names().size(), 8u);
  // From now on each put applies it: 900 is not among the last two any more.
  BDH_ASSERT_OK(PutEmpty(CheckpointName("a", 1100), 9.9));
  EXPECT_TRUE(absl::IsNotFound(store_->Describe(CheckpointName("a", 900)).status()));
  BDH_ASSERT_OK(store_->Describe(CheckpointName("a", 300)).status());
  EXPECT_TRUE(absl::IsNotFound(store_->GetRetention("b").status()));
  BDH_ASSERT_OK(store_->SetRetention("", RetentionPolicy{.keep_last = 1}));
  EXPECT_TRUE(store_->GetRetention("b")->inherited);
  EXPECT_FALSE(store_->GetRetention("a")->inherited);
  BDH_ASSERT_OK(store_->SetRetention("a", std::nullopt));
  EXPECT_EQ(store_->GetRetention("a")->policy.keep_last, 1);
}

TEST_F(CareTest, ADryRunOfRetentionSaysWhatItWouldFree) {
  for (int i = 0; i < 4; ++i) BDH_ASSERT_OK(Put(*store_, SomeContent(CheckpointName("a", i), i)).status());
  BDH_ASSERT_OK(store_->SetRetention("", RetentionPolicy{.keep_last = 1}));
  BDH_ASSERT_OK_AND_ASSIGN(const auto dry, store_->ApplyRetention("a", true));
  BDH_ASSERT_OK_AND_ASSIGN(const auto real, store_->ApplyRetention("a", false));
  EXPECT_EQ(dry.deleted, real.deleted);
  EXPECT_EQ(dry.freed_bytes, real.freed_bytes);
  EXPECT_EQ(real.freed_bytes, 3 * (300'000 + 8));  // "frozen" is the last one's too.
}

TEST_F(CareTest, RecordsChangeInOneStepOrNotAtAll) {
  BDH_ASSERT_OK(store_->Write([](Transaction& transaction) -> absl::Status {
    for (const char* key : {"a/1", "a/2", "a/3", "b/1"}) transaction.Put("things", key, key);
    BDH_EXPECT_OK(transaction.Get("things", "a/1"));
    EXPECT_EQ(**transaction.Get("things", "a/1"), "a/1");
    return absl::OkStatus();
  }));
  const auto refused = store_->Write([](Transaction& transaction) -> absl::Status {
    transaction.Delete("things", "a/1");
    EXPECT_FALSE(transaction.Get("things", "a/1")->has_value());
    return absl::AbortedError("changed my mind");
  });
  EXPECT_TRUE(absl::IsAborted(refused));
  Open();
  EXPECT_EQ(**store_->GetRecord("things", "a/1"), "a/1");
  EXPECT_FALSE(store_->GetRecord("thing", "sa/1")->has_value());
  BDH_ASSERT_OK_AND_ASSIGN(const auto page, store_->ScanRecords("things", "a/", "a/1", 10));
  ASSERT_EQ(page.size(), 2u);
  EXPECT_EQ(page[0].key, "a/2");
  for (const char* table : {"", "_blobs", "A", "a b"}) {
    const auto misused = store_->Write([&](Transaction& transaction) {
      transaction.Put(table, "k", "v");
      return absl::OkStatus();
    });
    EXPECT_TRUE(absl::IsInvalidArgument(misused)) << table;
  }
}

TEST_F(CareTest, ACommitHappensWithItsRecordsOrNotAtAll) {
  const Content content = SomeContent(kA, 1);
  for (const bool fenced : {true, false}) {
    BDH_ASSERT_OK_AND_ASSIGN(auto upload, store_->Begin(content.checkpoint));
    BDH_ASSERT_OK(Send(*upload, content));
    const auto status = upload->Commit([&](Transaction& transaction) -> absl::Status {
      transaction.Put("groups", "g", "moved");
      return fenced ? absl::AbortedError("generation 3 is over; it is 4") : absl::OkStatus();
    });
    EXPECT_EQ(absl::IsAborted(status.status()), fenced) << status.status();
    EXPECT_EQ(store_->GetRecord("groups", "g")->has_value(), !fenced);
    EXPECT_EQ(store_->Describe(kA).ok(), !fenced);
  }
  ExpectWhole(content);
  EXPECT_EQ(Audit().orphans, 0);
}

TEST_F(CareTest, BlobsAreKeptLikeCheckpointsAndReplacedInOneStep) {
  const std::string first = RandomBytes(1, 300'000),
                    second = first.substr(0, 200'000) + RandomBytes(2, 50'000);
  uint64_t old = 0;
  const auto own = [&](Transaction& transaction, const Blob& blob) -> absl::Status {
    if (old != 0) {
      const auto status = transaction.DeleteBlob(old);
      if (!status.ok()) return status;
    }
    transaction.Put("snapshots", "s", std::to_string(blob.id));
    return absl::OkStatus();
  };
  BDH_ASSERT_OK_AND_ASSIGN(const auto one, PutBlob(first, own));
  EXPECT_EQ(one.stored_bytes, 300'000);
  Sha256 sha;
  EXPECT_EQ(one.blob.sha256, sha.Of(first).Hex());
  EXPECT_EQ(*GetBlob(one.blob.id), first);
  old = one.blob.id;
  BDH_ASSERT_OK_AND_ASSIGN(const auto two, PutBlob(second, own));
  EXPECT_EQ(two.stored_bytes, 250'000 - 3 * 65536);  // Three chunks are those of the first.
  EXPECT_TRUE(absl::IsNotFound(GetBlob(old).status()));
  Open();
  EXPECT_EQ(*GetBlob(two.blob.id), second);
  EXPECT_EQ(**store_->GetRecord("snapshots", "s"), std::to_string(two.blob.id));
  EXPECT_EQ(store_->totals().blobs, 1);
  EXPECT_EQ(store_->totals().stored_bytes, 250'000);
  EXPECT_EQ(Audit().chunk_bytes, 250'000);
  EXPECT_EQ(Audit().blobs, 1);
  EXPECT_EQ(Audit().orphans, 0);

  // A stale owner's save leaves nothing, and what it wanted to replace stays.
  old = two.blob.id;
  const auto stale = PutBlob(first, [&](Transaction& transaction, const Blob&) -> absl::Status {
    BDH_EXPECT_OK(transaction.DeleteBlob(old));
    return absl::AbortedError("stale");
  });
  EXPECT_TRUE(absl::IsAborted(stale.status()));
  EXPECT_EQ(*GetBlob(two.blob.id), second);
  EXPECT_EQ(Audit().orphans, 0);
  BDH_ASSERT_OK_AND_ASSIGN(const auto blobs, store_->ListBlobs(0, 10));
  EXPECT_THAT(blobs, SizeIs(1));
  BDH_ASSERT_OK_AND_ASSIGN(const int64_t freed, store_->DeleteBlob(two.blob.id));
  EXPECT_EQ(freed, 250'000);
  BDH_EXPECT_OK(store_->DeleteBlob(two.blob.id));
  EXPECT_EQ(store_->totals().stored_bytes, 0);
  EXPECT_EQ(Audit().orphans, 0);
}

TEST_F(CareTest, ABlobMayNotBeLargerThanItSaid) {
  BDH_ASSERT_OK_AND_ASSIGN(const auto upload, store_->BeginBlob("snapshots/s", 100'000));
  BDH_ASSERT_OK(upload->Add(RandomBytes(1, 70'000)));
  EXPECT_TRUE(absl::IsResourceExhausted(upload->Add(RandomBytes(2, 70'000))));
  EXPECT_FALSE(upload->Commit([](Transaction&, const Blob&) { return absl::OkStatus(); }).ok());
  EXPECT_TRUE(absl::IsInvalidArgument(store_->BeginBlob("", 1).status()));
}

TEST_F(CareTest, RangesOfTensorsAreRead) {
  const Content content = SomeContent(kA, 1);
  BDH_ASSERT_OK(Put(*store_, content).status());
  Selection selection;
  selection.ranges = {
      {"encoder", 65'000, 70'000}, {"frozen", 0, 0}, {"frozen", 99'999, 1}, {"encoder", 0, 10}};
  BDH_ASSERT_OK_AND_ASSIGN(const auto reader, store_->Read(kA, selection));
  std::string got;
  std::vector<int64_t> offsets;
  while (true) {
    BDH_ASSERT_OK_AND_ASSIGN(const auto piece, reader->Next());
    if (!piece.has_value()) break;
    offsets.push_back(piece->offset);
    got += piece->bytes;
  }
  EXPECT_TRUE(got == content.bytes[0].substr(65'000, 70'000) + content.bytes[1].substr(99'999) +
                         content.bytes[0].substr(0, 10));
  EXPECT_THAT(offsets, ElementsAre(65'000, 65'536, 131'072, 99'999, 0));
  selection.ranges = {{"encoder", 299'999, 2}};
  EXPECT_TRUE(absl::IsOutOfRange(store_->Read(kA, selection).status()));
  selection.ranges = {{"none", 0, 1}};
  EXPECT_TRUE(absl::IsNotFound(store_->Read(kA, selection).status()));
}

TEST_F(CareTest, VerifyReadsEverythingOrOneCheckpoint) {
  BDH_ASSERT_OK(Put(*store_, SomeContent(kA, 0)).status());
  BDH_ASSERT_OK(Put(*store_, SomeContent(kB, 1)).status());
  int calls = 0;
  BDH_ASSERT_OK_AND_ASSIGN(const auto all, store_->Verify({.progress = [&](const VerifyProgress& progress) {
    ++calls;
    EXPECT_LE(progress.bytes_done, progress.bytes_total);
    return true;
  }}));
  EXPECT_GT(calls, 0);
  EXPECT_EQ(all.bytes, store_->totals().stored_bytes);
  EXPECT_THAT(all.damage, IsEmpty());
  BDH_ASSERT_OK_AND_ASSIGN(const auto one, store_->Verify({.reference = kB}));
  EXPECT_EQ(one.bytes, 400'008);
  EXPECT_TRUE(absl::IsNotFound(store_->Verify({.reference = "none"}).status()));
  const auto broken = store_->Verify({.progress = [](const VerifyProgress&) { return false; }}).status();
  EXPECT_TRUE(absl::IsCancelled(broken));
  EXPECT_TRUE(absl::IsNotFound(store_->Heal(std::string(32, 'x'), "x")) ||
              absl::IsInvalidArgument(store_->Heal(std::string(32, 'x'), "x")));
}

TEST_F(CareTest, UsageSaysWhoseTheBytesAre) {
  BDH_ASSERT_OK(Put(*store_, SomeContent("runs/a/steps/1", 0)).status());
  BDH_ASSERT_OK(Put(*store_, SomeContent("runs/a/steps/2", 0)).status());
  BDH_ASSERT_OK(Put(*store_, SomeContent("runs/b/steps/1", 1)).status());
  BDH_ASSERT_OK(
      PutBlob(RandomBytes(9, 1000), [](Transaction&, const Blob&) { return absl::OkStatus(); }).status());
  BDH_ASSERT_OK_AND_ASSIGN(const Usage usage, store_->GetUsage());
  ASSERT_EQ(usage.runs.size(), 2u);
  EXPECT_EQ(usage.runs[0].run, "a");
  EXPECT_EQ(usage.runs[0].checkpoints, 2);
  EXPECT_EQ(usage.runs[0].logical_bytes, 2 * 400'008);
  EXPECT_EQ(usage.runs[0].unshared_bytes, 300'008);
  EXPECT_EQ(usage.runs[1].unshared_bytes, 300'008);
  EXPECT_EQ(usage.stored_bytes, store_->totals().stored_bytes);
  EXPECT_EQ(usage.blob_bytes, 1000);
  EXPECT_EQ(usage.unreferenced_bytes, 0);
  EXPECT_GT(usage.disk_bytes, usage.stored_bytes / 2);
  EXPECT_GT(usage.disk_free_bytes, 0);
}

TEST_F(CareTest, ABackupOpensAndIsOfOneMoment) {
  BDH_ASSERT_OK(Put(*store_, SomeContent(kA, 0)).status());
  BDH_ASSERT_OK(store_->SetTag("t", kA));
  const std::string target = folder_.path() + "/backup";
  BDH_ASSERT_OK(store_->BackUp(target));
  BDH_ASSERT_OK(Put(*store_, SomeContent(kB, 1)).status());
  BDH_ASSERT_OK(store_->DeleteTag("t"));
  BDH_ASSERT_OK(store_->Delete(kA).status());
  {
    Store::Options options = SomeOptions();
    options.folder = target;
    BDH_ASSERT_OK_AND_ASSIGN(const auto copy, Store::Open(options));
    const auto got = Get(*copy, "t");
    ASSERT_TRUE(got.ok()) << got.status();
    EXPECT_TRUE(got->bytes == SomeContent(kA, 0).bytes);
    EXPECT_TRUE(absl::IsNotFound(copy->Describe(kB).status()));
  }
  // Again into the same folder.
  BDH_ASSERT_OK(store_->BackUp(target));
  Store::Options options = SomeOptions();
  options.folder = target;
  BDH_ASSERT_OK_AND_ASSIGN(const auto copy, Store::Open(options));
  EXPECT_TRUE(Get(*copy, kB)->bytes == SomeContent(kB, 1).bytes);
  EXPECT_TRUE(absl::IsNotFound(copy->Describe(kA).status()));
  fs::create_directories(folder_.path() + "/other/things");
  EXPECT_TRUE(absl::IsInvalidArgument(store_->BackUp(folder_.path() + "/other")));
}

int64_t PackBytes(const std::string& folder) {
  int64_t bytes = 0;
  for (const auto& entry : fs::directory_iterator(folder + "/packs"))
    bytes += static_cast<int64_t>(entry.file_size());
  return bytes;
}

TEST_F(CareTest, HalfDeadPacksAreRewrittenWhileReadersAndUploadsGoOn) {
  Store::Options options = SomeOptions();
  options.pack_bytes = 1'000'000;
  Open(options);
  for (int i = 0; i < 12; ++i)
    BDH_ASSERT_OK(Put(*store_, SomeContent(CheckpointName("a", i), 4 * i)).status());
  EXPECT_GE(store_->stats().packs, 4);
  BDH_ASSERT_OK_AND_ASSIGN(auto reader, store_->Read(CheckpointName("a", 0)));
  const Content kept = SomeContent("runs/up/steps/1", 40);
  BDH_ASSERT_OK_AND_ASSIGN(auto upload, store_->Begin(kept.checkpoint));
  BDH_ASSERT_OK(Send(*upload, kept));
  for (int i = 0; i < 12; ++i) {
    if (i % 4 != 3) BDH_ASSERT_OK(store_->Delete(CheckpointName("a", i)).status());
  }
  store_->Reclaim();
  size_t bytes = 0;
  while (true) {
    BDH_ASSERT_OK_AND_ASSIGN(const auto piece, reader->Next());
    if (!piece.has_value()) break;
    bytes += piece->bytes.size();
  }
  EXPECT_EQ(bytes, 400'008u);
  reader.reset();  // Packs that it may have read in go now.
  BDH_ASSERT_OK(upload->Commit().status());
  upload.reset();
  const auto stats = store_->stats();
  EXPECT_LT(stats.pack_bytes, 2 * stats.live_bytes);
  for (const bool again : {false, true}) {
    if (again) Open(options);
    for (const int i : {3, 7, 11}) ExpectWhole(SomeContent(CheckpointName("a", i), 4 * i));
    ExpectWhole(kept);
    EXPECT_THAT(Audit().damaged, IsEmpty());
    EXPECT_EQ(Audit().orphans, 0);
  }
}

// A model that learns: most bytes of each step are those of the step before.
Content Learned(int step) {
  std::string weights = RandomBytes(1, 400'000);
  for (int i = 0; i <= step; ++i) {
    for (size_t at = static_cast<size_t>(i) * 13; at < weights.size(); at += 1000) ++weights[at];
  }
  Content content;
  content.checkpoint.name = CheckpointName("a", step);
  if (step > 0) content.checkpoint.parent = CheckpointName("a", step - 1);
  content.Add("weights", DType::kF32, {100'000}, std::move(weights));
  return content;
}

TEST_F(CareTest, DeltasSaveSpaceAndTheirBasesStayAsLongAsTheyAreNeeded) {
  Store::Options options = SomeOptions();
  options.compression = Store::Compression::kDelta;
  Open(options);
  for (int i = 0; i < 20; ++i) BDH_ASSERT_OK(Put(*store_, Learned(i)).status());
  EXPECT_EQ(store_->totals().stored_bytes, 20 * 400'000);
  // Chains are at most eight long: every ninth is whole.
  EXPECT_LT(store_->stats().live_bytes, 20 * 400'000 / 4);
  for (int i = 0; i < 19; ++i) BDH_ASSERT_OK(store_->Delete(CheckpointName("a", i)).status());
  store_->Reclaim();
  EXPECT_EQ(store_->totals().stored_bytes, 400'000);
  ExpectWhole(Learned(19));
  // The bases of what is left are there and nobody's: a commit that brings one of them again counts it again.
  BDH_ASSERT_OK_AND_ASSIGN(const auto again, Put(*store_, Learned(18)));
  EXPECT_EQ(again.stored_bytes, 400'000);
  EXPECT_EQ(Audit().orphans, 0);
  Open(options);
  ExpectWhole(Learned(18));
  ExpectWhole(Learned(19));
  for (const int i : {18, 19}) BDH_ASSERT_OK(store_->Delete(CheckpointName("a", i)).status());
  BDH_ASSERT_OK(store_->CollectGarbage(false).status());
  EXPECT_EQ(store_->stats().live_bytes, 0);
  EXPECT_EQ(PackBytes(folder_.path() + "/store"), 0);
}

TEST_F(CareTest, WhatDoesNotShrinkIsKeptAsItIs) {
  Store::Options options = SomeOptions();
  options.compression = Store::Compression::kZstd;
  Open(options);
  BDH_ASSERT_OK(Put(*store_, SomeContent(kA, 1)).status());
  EXPECT_GE(store_->stats().live_bytes, 400'008);
  ExpectWhole(SomeContent(kA, 1));
  Content zeros;
  zeros.checkpoint.name = kB;
  zeros.AddBytes("zeros", std::string(1'000'000, '\0'));
  zeros.AddBytes("odd", std::string(12'345, 'x'));
  BDH_ASSERT_OK(Put(*store_, zeros).status());
  EXPECT_LT(store_->stats().live_bytes, 410'000);
  ExpectWhole(zeros);
}

TEST_F(CareTest, TheScrubFindsDamageThatNobodyRead) {
  Store::Options alone = SomeOptions();
  alone.helper_threads = -1;  // So that chunks stand in the order in which they came.
  Open(alone);
  BDH_ASSERT_OK(Put(*store_, SomeContent(kA, 1)).status());
  store_.reset();
  for (const auto& entry : fs::directory_iterator(folder_.path() + "/store/packs")) {
    std::fstream file(entry.path(), std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(100'000);
    file.put('!').put('?');
  }
  Store::Options options = SomeOptions();
  options.scrub_bytes_per_second = 1 << 30;
  options.scrub_interval = absl::Milliseconds(1);
  options.clock = absl::Now;  // Asked by another thread too.
  Open(options);
  while (store_->stats().scrub_rounds < 2) std::this_thread::yield();
  EXPECT_EQ(store_->stats().damaged_chunks, 1);
  BDH_ASSERT_OK_AND_ASSIGN(const auto damage, store_->ListDamage(10));
  ASSERT_EQ(damage.size(), 1u);
  EXPECT_EQ(damage[0].places[0].object, kA);
  EXPECT_EQ(damage[0].places[0].tensor, "encoder");
  EXPECT_EQ(damage[0].places[0].offset, 65536);
  EXPECT_EQ(damage[0].size_bytes, 65536);
  EXPECT_TRUE(absl::IsDataLoss(Get(*store_, kA).status()));
  Open();  // Written down.
  EXPECT_EQ(store_->stats().damaged_chunks, 1);
  // Repair brings the right bytes.
  const std::string right = SomeContent(kA, 1).bytes[0].substr(65536, 65536);
  EXPECT_TRUE(absl::IsInvalidArgument(store_->Heal(damage[0].digest, "wrong")));
  BDH_ASSERT_OK(store_->Heal(damage[0].digest, right));
  EXPECT_TRUE(absl::IsNotFound(store_->Heal(damage[0].digest, right)));
  ExpectWhole(SomeContent(kA, 1));
  Open();
  ExpectWhole(SomeContent(kA, 1));
  EXPECT_EQ(store_->stats().damaged_chunks, 0);
}

// A copy of a folder of the first format, and what is in it.
std::vector<Content> CopyGoldenFolder(const std::string& path) {
  fs::copy(BDH_SOURCE_DIR "/tests/golden/store_format_1", path, fs::copy_options::recursive);
  return {SomeContent(CheckpointName("gold", 0), 0, 30'000),
          SomeContent(CheckpointName("gold", 1), 1, 30'000),
          SomeContent(CheckpointName("gold", 2), 10, 20'000)};
}

void FlipTheMiddle(const std::string& folder, const std::string& extension) {
  fs::path largest;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.path().extension() != extension) continue;
    if (largest.empty() || entry.file_size() > fs::file_size(largest)) largest = entry.path();
  }
  ASSERT_FALSE(largest.empty()) << "there is no " << extension;
  const auto at = static_cast<std::streamoff>(fs::file_size(largest) / 2);
  std::fstream file(largest, std::ios::in | std::ios::out | std::ios::binary);
  file.seekg(at);
  const int was = file.get();
  file.seekp(at);
  file.put(static_cast<char>(was ^ 1));
}

TEST(FormatTest, DamageInAnOldBlobFileAndInAPackBesideItAreBothNamed) {
  const TempDirectory folder;
  const std::string path = folder.path() + "/store";
  const std::vector<Content> golden = CopyGoldenFolder(path);
  const Store::Options options{.folder = path, .chunk_bytes = 16384, .min_free_bytes = 0};
  FlipTheMiddle(path + "/db", ".blob");
  std::string in_blob;
  {
    BDH_ASSERT_OK_AND_ASSIGN(const auto store, Store::Open(options));
    store->Reclaim();  // All but the damaged chunk goes into packs.
    EXPECT_GT(store->stats().live_bytes, 40'000);
    BDH_ASSERT_OK_AND_ASSIGN(const VerifyResult found, store->Verify({}));
    ASSERT_EQ(found.damage.size(), 1u);
    in_blob = found.damage[0].digest;
  }
  FlipTheMiddle(path + "/packs", ".pack");
  BDH_ASSERT_OK_AND_ASSIGN(const auto store, Store::Open(options));
  BDH_ASSERT_OK_AND_ASSIGN(const VerifyResult found, store->Verify({}));
  ASSERT_EQ(found.damage.size(), 2u);
  EXPECT_NE(found.damage[0].digest, found.damage[1].digest);
  EXPECT_TRUE(found.damage[0].digest == in_blob || found.damage[1].digest == in_blob);
  std::set<std::string> touched;
  for (const Damage& damage : found.damage) {
    EXPECT_FALSE(damage.places.empty());
    for (const Place& place : damage.places) touched.insert(place.object);
  }
  for (const Content& content : golden) {
    const auto got = Get(*store, content.checkpoint.name);
    EXPECT_EQ(got.ok(), touched.count(content.checkpoint.name) == 0) << got.status();
    EXPECT_TRUE(got.ok() || absl::IsDataLoss(got.status())) << got.status();
  }
  // The same bytes again heal both.
  for (size_t i = 0; i < golden.size(); ++i) {
    Content again = golden[i];
    again.checkpoint.name = CheckpointName("again", static_cast<int64_t>(i));
    BDH_ASSERT_OK(Put(*store, again));
  }
  BDH_ASSERT_OK_AND_ASSIGN(const VerifyResult healed, store->Verify({}));
  EXPECT_EQ(healed.damaged_chunks, 0);
  for (const Content& content : golden)
    EXPECT_TRUE(Get(*store, content.checkpoint.name)->bytes == content.bytes);
}

TEST(FormatTest, AFolderOfTheFirstFormatOpensAndReads) {
  const TempDirectory folder;
  const std::string path = folder.path() + "/store";
  const std::vector<Content> golden = CopyGoldenFolder(path);
  const Store::Options options{.folder = path, .chunk_bytes = 16384, .min_free_bytes = 0};
  for (int opened = 0; opened < 3; ++opened) {
    BDH_ASSERT_OK_AND_ASSIGN(const auto store, Store::Open(options));
    EXPECT_EQ(store->totals().checkpoints, 3 + opened);
    for (const Content& content : golden) {
      const auto got = Get(*store, content.checkpoint.name);
      ASSERT_TRUE(got.ok()) << got.status();
      EXPECT_TRUE(got->bytes == content.bytes);
    }
    EXPECT_EQ(store->Describe("last")->name, CheckpointName("gold", 2));
    EXPECT_EQ(store->TagHistory("first", 10)->front().checkpoint, CheckpointName("gold", 0));
    BDH_ASSERT_OK_AND_ASSIGN(const auto audit, store->Check());
    EXPECT_THAT(audit.damaged, IsEmpty());
    EXPECT_EQ(audit.orphans, 0);
    store->Reclaim();
    EXPECT_GT(store->stats().live_bytes, 60'000);
    for (const auto& entry : fs::directory_iterator(path + "/db")) {
      EXPECT_NE(entry.path().extension(), ".blob") << "old chunks are in packs now";
    }
    // What old chunks hold is not written again.
    Content same = golden[1];
    same.checkpoint.name = CheckpointName("gold", 100 + opened);
    EXPECT_EQ(Put(*store, same)->stored_bytes, 0);
  }
}

}  // namespace
}  // namespace bdh::store
