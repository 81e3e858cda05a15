// Proves the data loader over the wire, with a real daemon and a real client: data sets are made whole or not
// at all and survive a restart; clients that vanish, wrong requests, limits, damage and deletion each get
// what data_loader.proto says.
#include <algorithm>
#include <fstream>
#include <thread>

#include "hub_server_testing.h"
#include "services/data_loader/server_testing.h"

namespace bdh::data_loader {
namespace {

TEST_F(DataLoaderTest, AnUploadBecomesADataSet) {
  BDH_ASSERT_OK_AND_ASSIGN(const auto dataset, Upload("text", {{"a", Text(250000)}, {"b", Text(1000, 2)}}));
  EXPECT_EQ(dataset.name(), "text");
  EXPECT_EQ(dataset.hash().size(), 64u);
  EXPECT_EQ(dataset.tokenizer(), "byte");
  EXPECT_EQ(dataset.vocab_size(), 256);
  EXPECT_EQ(dataset.documents(), 2);
  EXPECT_EQ(dataset.bytes_in(), 251000);
  EXPECT_EQ(dataset.train_tokens(), 225900);
  EXPECT_EQ(dataset.validation_tokens(), 25100);
  EXPECT_GT(dataset.create_time().seconds(), 0);
  EXPECT_THAT(Names(), ElementsAre("text"));

  v1::DescribeDatasetRequest request;
  request.set_name("text");
  BDH_ASSERT_OK_AND_ASSIGN(const auto described,
                           peer_->Call(*stub_, &Stub::DescribeDataset, request, kTimeout));
  EXPECT_EQ(described.dataset().hash(), dataset.hash());
  EXPECT_EQ(described.sample(), Text(1024));
  ASSERT_EQ(described.shards_size(), 2);
  EXPECT_EQ(described.shards(0).file(), "train-00000.tokens");
  EXPECT_EQ(described.shards(0).split(), "train");
  EXPECT_EQ(described.shards(0).tokens(), 225900);
  EXPECT_EQ(described.shards(1).split(), "validation");
}

TEST_F(DataLoaderTest, FilesOfTheDaemonBecomeTheSameDataSetAsTheirUpload) {
  BDH_ASSERT_OK(MakeDirectories(folder_.path() + "/in"));
  BDH_ASSERT_OK(WriteFileAtomically(folder_.path() + "/in/a.txt", Text(3 << 20)));
  BDH_ASSERT_OK(WriteFileAtomically(folder_.path() + "/in/b.txt", Text(1000, 2)));
  std::vector<v1::CreateDatasetProgress> progress;
  BDH_ASSERT_OK_AND_ASSIGN(const auto files, Create({Spec("files", {folder_.path() + "/in"})}, &progress));
  BDH_ASSERT_OK_AND_ASSIGN(const auto sent, Upload("sent", {{"x", Text(3 << 20)}, {"y", Text(1000, 2)}}));
  EXPECT_EQ(files.hash(), sent.hash());
  ASSERT_FALSE(progress.empty());
  EXPECT_EQ(progress.back().documents(), 2);
  EXPECT_EQ(progress.back().bytes_in(), (3 << 20) + 1000);
  EXPECT_EQ(progress.back().tokens_out(), (3 << 20) + 1000);
  EXPECT_EQ(progress.back().bytes_total(), (3 << 20) + 1000);
}

TEST_F(DataLoaderTest, TheSameAgainIsOkAndOtherContentIsNot) {
  BDH_ASSERT_OK_AND_ASSIGN(const auto first, Upload("text", {{"a", Text(1000)}}));
  BDH_ASSERT_OK_AND_ASSIGN(const auto again, Upload("text", {{"a", Text(1000)}}));
  EXPECT_EQ(again.SerializeAsString(), first.SerializeAsString());
  const auto other = Upload("text", {{"a", Text(1001)}}).status();
  EXPECT_EQ(other.code(), absl::StatusCode::kAlreadyExists);
  EXPECT_TRUE(absl::StrContains(other.message(), "another name, or delete")) << other;
}

TEST_F(DataLoaderTest, TwoClientsThatCreateOneNameAgreeOrOneIsRefused) {
  std::vector<absl::StatusOr<v1::Dataset>> results(4, absl::UnknownError("not run"));
  std::vector<std::thread> clients;
  for (size_t i = 0; i < results.size(); ++i) {
    clients.emplace_back([&, i] { results[i] = Upload("text", {{"a", Text(300000, i % 2)}}); });
  }
  for (std::thread& client : clients) client.join();
  int ok = 0;
  for (const auto& result : results) {
    ok += result.ok();
    if (!result.ok()) {
      EXPECT_EQ(result.status().code(), absl::StatusCode::kAlreadyExists) << result.status();
    }
  }
  EXPECT_EQ(ok, 2);
  EXPECT_EQ(Staged(), 0u);
}

TEST_F(DataLoaderTest, AnUploaderThatVanishesLeavesNothing) {
  {
    const auto context = peer_->NewContext(kTimeout);
    const auto stream = stub_->CreateDataset(context.get());
    ASSERT_TRUE(stream->Write(Spec("text")));
    ASSERT_TRUE(stream->Write(Chunk("a", Text(1000))));
    ASSERT_TRUE(Eventually([&] { return Staged() == 1; }));
    context->TryCancel();
    EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::CANCELLED);
  }
  EXPECT_TRUE(Eventually([&] { return Staged() == 0; }));
  EXPECT_THAT(Names(), IsEmpty());
}

TEST_F(DataLoaderTest, WrongCreatesAreRefusedInASentence) {
  BDH_ASSERT_OK(WriteFileAtomically(folder_.path() + "/short.txt", "tiny"));
  auto tokenizer = Spec("a");
  tokenizer.mutable_spec()->set_tokenizer("gpt2");
  auto share = Spec("a");
  share.mutable_spec()->set_validation_fraction(0.7);
  const struct {
    std::vector<v1::CreateDatasetRequest> requests;
    absl::StatusCode code;
    const char* says;
  } kCases[] = {
      {{}, absl::StatusCode::kInvalidArgument, "the first message must hold spec"},
      {{Chunk("a", "x")}, absl::StatusCode::kInvalidArgument, "the first message must hold spec"},
      {{Spec("a"), Spec("a")}, absl::StatusCode::kInvalidArgument, "must hold a chunk"},
      {{Spec("a")}, absl::StatusCode::kInvalidArgument, "has no text"},
      {{Spec("a"), Chunk("d", "")}, absl::StatusCode::kInvalidArgument, "has no text"},
      {{Spec("a"), Chunk("d", "tiny")}, absl::StatusCode::kInvalidArgument, "validation split"},
      {{Spec("a"), Chunk("d", Text((1 << 20) + 1))}, absl::StatusCode::kInvalidArgument, "at most 1048576"},
      {{Spec("")}, absl::StatusCode::kInvalidArgument, "cannot name a data set"},
      {{Spec("../up")}, absl::StatusCode::kInvalidArgument, "cannot name a data set"},
      {{tokenizer}, absl::StatusCode::kNotFound, "known ones are: byte"},
      {{share}, absl::StatusCode::kInvalidArgument, "validation_fraction is 0.7"},
      {{Spec("a", {""})}, absl::StatusCode::kInvalidArgument, "not an absolute path"},
      {{Spec("a", {"/no/such/file"})}, absl::StatusCode::kNotFound, "/no/such/file"},
      {{Spec("a", {"relative.txt"})}, absl::StatusCode::kInvalidArgument, "not an absolute path"},
      {{Spec("a", {"/dev/zero"})}, absl::StatusCode::kInvalidArgument, "neither a regular file"},
      {{Spec("a", {folder_.path() + "/short.txt"})}, absl::StatusCode::kInvalidArgument, "would be empty"},
  };
  for (const auto& test : kCases) {
    const auto status = Create(test.requests).status();
    EXPECT_EQ(status.code(), test.code) << status;
    EXPECT_TRUE(absl::StrContains(status.message(), test.says)) << status;
  }
  EXPECT_EQ(Staged(), 0u);
  EXPECT_THAT(Names(), IsEmpty());
}

TEST_F(DataLoaderTest, TooMuchTextIsRefusedUploadedOrNamed) {
  Restart([](Server::Options& options) { options.max_dataset_bytes = 5000; });
  BDH_ASSERT_OK(WriteFileAtomically(folder_.path() + "/big.txt", Text(5001)));
  for (const auto& status : {Upload("big", {{"a", Text(5001)}}).status(),
                             Create({Spec("big", {folder_.path() + "/big.txt"})}).status()}) {
    EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
    EXPECT_TRUE(absl::StrContains(status.message(), "data_loader.max_dataset_bytes, which is 5000"))
        << status;
  }
  EXPECT_EQ(Staged(), 0u);
}

TEST_F(DataLoaderTest, ARestartKeepsDataSetsAndRemovesWhatAKillLeft) {
  BDH_ASSERT_OK(Upload("text", {{"a", Text(100000)}}));
  BDH_ASSERT_OK_AND_ASSIGN(const auto before, Collect(Batches("text", 0, 5)));
  BDH_ASSERT_OK(MakeDirectories(data_dir() + "/staging/0123456789abcdef"));
  BDH_ASSERT_OK(WriteFileAtomically(data_dir() + "/staging/0123456789abcdef/train-00000.tokens", "half"));
  Restart();
  EXPECT_EQ(Staged(), 0u);
  EXPECT_THAT(Names(), ElementsAre("text"));
  BDH_ASSERT_OK_AND_ASSIGN(const auto after, Collect(Batches("text", 0, 5)));
  EXPECT_EQ(after, before);
}

TEST_F(DataLoaderTest, DamageIsSaidWithTheFileAndOtherDataSetsAreServed) {
  BDH_ASSERT_OK(Upload("bad", {{"a", Text(1000)}}));
  BDH_ASSERT_OK(Upload("cut", {{"a", Text(1000)}}));
  BDH_ASSERT_OK(Upload("good", {{"a", Text(1000)}}));
  const std::string shard = data_dir() + "/datasets/bad/train-00000.tokens";
  BDH_ASSERT_OK_AND_ASSIGN(std::string bytes, ReadFile(shard));
  bytes[100] ^= 1;
  BDH_ASSERT_OK(WriteFileAtomically(shard, bytes));
  fs::resize_file(data_dir() + "/datasets/cut/train-00000.tokens", 100);
  Restart();
  const auto flipped = Collect(Batches("bad", 0, 1)).status();
  EXPECT_EQ(flipped.code(), absl::StatusCode::kDataLoss);
  EXPECT_TRUE(absl::StrContains(flipped.message(), "datasets/bad/train-00000.tokens is damaged")) << flipped;
  const auto cut = Collect(Batches("cut", 0, 1)).status();
  EXPECT_EQ(cut.code(), absl::StatusCode::kDataLoss);
  EXPECT_TRUE(absl::StrContains(cut.message(), "datasets/cut/train-00000.tokens is 100 bytes long")) << cut;
  BDH_EXPECT_OK(Collect(Batches("good", 0, 1)));
  BDH_EXPECT_OK(Delete("cut"));
}

TEST_F(DataLoaderTest, ReplicasOnOneFolderServeTheSameBatches) {
  BDH_ASSERT_OK(Upload("text", {{"a", Text(100000)}}));
  BDH_ASSERT_OK_AND_ASSIGN(const auto mine, Collect(Batches("text", 0, 10)));
  BDH_ASSERT_OK_AND_ASSIGN(const auto replica,
                           Server::Start({.listen = {.credentials = "secret"}, .data_dir = data_dir()}));
  peer_ = std::make_unique<mesh::Peer>("bdh-data-loader", replica->address(), "secret");
  stub_ = v1::DataLoaderService::NewStub(peer_->channel());
  BDH_ASSERT_OK_AND_ASSIGN(const auto theirs, Collect(Batches("text", 0, 10)));
  EXPECT_EQ(theirs, mine);
  BDH_ASSERT_OK(Upload("late", {{"a", Text(1000, 5)}}));
  server_.reset();  // One replica leaves; the other goes on.
  EXPECT_THAT(Names(), ElementsAre("late", "text"));
  BDH_ASSERT_OK(Delete("late"));
}

TEST_F(DataLoaderTest, AFolderThatCannotBeUsedIsSaid) {
  BDH_ASSERT_OK(WriteFileAtomically(folder_.path() + "/file", "x"));
  const auto nowhere = Server::Start({.data_dir = folder_.path() + "/file"}).status();
  EXPECT_TRUE(absl::StrContains(nowhere.message(), "or set another folder")) << nowhere;
}

TEST_F(DataLoaderTest, ADataSetIsLookedInto) {
  std::vector<Document> documents;
  for (uint32_t i = 0; i < 120; ++i) documents.push_back({absl::StrFormat("d%d", i), Text(20 + i, i + 1)});
  BDH_ASSERT_OK_AND_ASSIGN(const auto dataset, Upload("text", documents));
  EXPECT_EQ(dataset.split_rule(), v1::SPLIT_RULE_DOCUMENT) << "of many documents, whole ones are validation";
  EXPECT_TRUE(dataset.complete());
  const auto lookup = v1::DatasetService::NewStub(peer_->channel());
  using Lookup = v1::DatasetService::Stub;

  v1::SampleDatasetRequest sample;
  sample.set_dataset("text");
  sample.set_count(5);
  BDH_ASSERT_OK_AND_ASSIGN(const auto drawn, peer_->Call(*lookup, &Lookup::SampleDataset, sample, kTimeout));
  ASSERT_EQ(drawn.documents_size(), 5);
  for (const auto& document : drawn.documents()) {
    EXPECT_EQ(document.tokens(), static_cast<int64_t>(document.text().size()));
    EXPECT_TRUE(std::any_of(documents.begin(), documents.end(),
                            [&](const Document& d) { return d.text == document.text(); }));
  }
  sample.set_count(101);
  EXPECT_EQ(peer_->Call(*lookup, &Lookup::SampleDataset, sample, kTimeout).status().code(),
            absl::StatusCode::kInvalidArgument);

  v1::GetDatasetReportRequest report;
  report.set_dataset("text");
  BDH_ASSERT_OK_AND_ASSIGN(const auto reported,
                           peer_->Call(*lookup, &Lookup::GetDatasetReport, report, kTimeout));
  EXPECT_EQ(reported.documents_kept(), 120);
  EXPECT_EQ(reported.bytes_kept(), dataset.bytes_in());
  int64_t binned = 0;
  for (const auto& bin : reported.lengths()) binned += bin.documents();
  EXPECT_EQ(binned, 120);

  const auto context = peer_->NewContext(kTimeout);
  v1::ExportDatasetRequest whole;
  whole.set_dataset("text");
  const auto text = lookup->ExportDataset(context.get(), whole);
  std::string together, wanted;
  for (v1::TextChunk chunk; text->Read(&chunk);) together += chunk.data();
  BDH_ASSERT_OK(peer_->Outcome(text->Finish()));
  for (const Document& document : documents) wanted += document.text;
  EXPECT_EQ(together, wanted);
}

TEST_F(DataLoaderTest, VerifyingReadsAllShardsAndNamesADamagedOne) {
  BDH_ASSERT_OK(Upload("text", {{"a", Text(100000)}}));
  const auto lookup = v1::DatasetService::NewStub(peer_->channel());
  const auto verify = [&] {
    const auto context = peer_->NewContext(kTimeout);
    v1::VerifyDatasetRequest request;
    request.set_dataset("text");
    const auto stream = lookup->VerifyDataset(context.get(), request);
    bool done = false;
    for (v1::VerifyDatasetResponse response; stream->Read(&response);) {
      EXPECT_LE(response.bytes_done(), response.bytes_total());
      done = response.done();
    }
    const absl::Status outcome = peer_->Outcome(stream->Finish());
    EXPECT_EQ(done, outcome.ok());
    return outcome;
  };
  BDH_EXPECT_OK(verify());
  const std::string shard = data_dir() + "/datasets/text/train-00000.tokens";
  std::fstream file(shard, std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(5000);
  file.put('#');
  file.close();
  const absl::Status damaged = verify();
  EXPECT_EQ(damaged.code(), absl::StatusCode::kDataLoss);
  EXPECT_TRUE(absl::StrContains(damaged.message(), "train-00000.tokens is damaged")) << damaged;
}

TEST_F(DataLoaderTest, OtherDataSetsUnderOneNameAreAMixture) {
  BDH_ASSERT_OK(Upload("one", {{"a", Text(10000)}}));
  BDH_ASSERT_OK(Upload("two", {{"a", Text(10000, 2)}}));
  auto mix = Spec("mix");
  mix.mutable_spec()->add_parts()->set_dataset("one");
  auto* two = mix.mutable_spec()->add_parts();
  two->set_dataset("two");
  two->set_weight(3);
  mix.mutable_spec()->set_order(v1::ORDER_EPOCH);
  BDH_ASSERT_OK_AND_ASSIGN(const auto dataset, Create({mix}));
  EXPECT_EQ(dataset.order(), v1::ORDER_EPOCH);
  EXPECT_EQ(dataset.parts_size(), 2);
  EXPECT_EQ(dataset.train_tokens(), 18000);
  BDH_ASSERT_OK_AND_ASSIGN(const auto steps, Collect(Batches("mix", 0, 8)));
  int of_two = 0;
  for (const auto& [step, rows] : steps) {
    for (size_t row = 0; row < 6; ++row)
      of_two += absl::StrContains(Text(10000, 2), rows.substr(row * 33, 33));
  }
  EXPECT_EQ(of_two, 36);
  EXPECT_EQ(Delete("one").code(), absl::StatusCode::kFailedPrecondition);
  mix.mutable_spec()->add_paths("/srv");
  EXPECT_EQ(Create({mix}).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(DataLoaderTest, TextBesideNamedSourcesIsRefusedNotPassedOver) {
  BDH_ASSERT_OK(WriteFileAtomically(folder_.path() + "/a.txt", Text(1000)));
  const auto status = Create({Spec("a", {folder_.path() + "/a.txt"}), Chunk("b", "text")}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(absl::StrContains(status.message(), "a chunk of text was sent too")) << status;
}

TEST_F(DataLoaderTest, RowsOfAFileBecomeDocumentsAndTheReportCountsAll) {
  std::string rows;
  for (int i = 0; i < 150; ++i)
    rows += absl::StrFormat("{\"text\": \"row %d of it\", \"score\": %d}\n", i, 150 - i);
  rows += "{\"text\": \"row 7 of it\", \"score\": 1}\n{\"text\": \"no\", \"score\": 1}\n";
  BDH_ASSERT_OK(WriteFileAtomically(folder_.path() + "/rows.jsonl", rows));
  auto spec = Spec("rows", {folder_.path() + "/*.jsonl"});
  spec.mutable_spec()->mutable_documents()->set_deduplicate(true);
  spec.mutable_spec()->mutable_documents()->set_min_bytes(5);
  spec.mutable_spec()->mutable_documents()->set_score_column("score");
  spec.mutable_spec()->set_order(v1::ORDER_SCORE);
  BDH_ASSERT_OK_AND_ASSIGN(const auto dataset, Create({spec}));
  EXPECT_EQ(dataset.documents(), 150);
  EXPECT_TRUE(dataset.scored());
  const auto lookup = v1::DatasetService::NewStub(peer_->channel());
  v1::GetDatasetReportRequest request;
  request.set_dataset("rows");
  BDH_ASSERT_OK_AND_ASSIGN(
      const auto report,
      peer_->Call(*lookup, &v1::DatasetService::Stub::GetDatasetReport, request, kTimeout));
  EXPECT_EQ(report.documents_in(), 152);
  EXPECT_EQ(report.documents_kept(), 150);
  EXPECT_EQ(report.dropped_size(), 2);
  EXPECT_THAT(report.sources(), ElementsAre("rows.jsonl"));
  // The lowest score comes first: the file's last row that was kept.
  auto batches = Batches("rows", 0, 1);
  batches.set_batch_size(1);
  batches.set_block_size(12);
  BDH_ASSERT_OK_AND_ASSIGN(const auto steps, Collect(batches));
  EXPECT_TRUE(absl::StartsWith(steps.at(0), "row 14")) << steps.at(0);

  BDH_ASSERT_OK_AND_ASSIGN(const auto sent, Upload("sent", {{"rows.jsonl", rows}}));
  EXPECT_EQ(sent.documents(), 152) << "what is sent is read by its name too";
  auto picked = Spec("picked", {folder_.path() + "/*.jsonl"});
  picked.mutable_spec()->mutable_documents()->add_must_contain("row 1");
  picked.mutable_spec()->mutable_documents()->add_must_not_contain("row 14");
  picked.mutable_spec()->mutable_documents()->set_min_word_share(0.6);
  BDH_ASSERT_OK_AND_ASSIGN(const auto few, Create({picked}));
  EXPECT_EQ(few.documents(), 50) << "1, 10 to 19 and 100 to 149 without 14 and 140 to 149";
  spec.mutable_spec()->set_name("wrong");
  spec.mutable_spec()->mutable_documents()->set_format("docx");
  const auto wrong = Create({spec}).status();
  EXPECT_EQ(wrong.code(), absl::StatusCode::kInvalidArgument) << wrong;
}

TEST_F(DataLoaderTest, ARowThatIsTooLongIsRefusedOrDroppedAsChosen) {
  Restart([](Server::Options& options) { options.max_document_bytes = 2000; });
  std::string rows = "{\"text\": \"" + Text(3000) + "\"}\n";
  for (int i = 0; i < 20; ++i) rows += "{\"text\": \"" + Text(100, static_cast<uint32_t>(i)) + "\\r\\n\"}\n";
  auto spec = Spec("rows");
  const absl::Status refused = Create({spec, Chunk("rows.jsonl", rows)}).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(absl::StrContains(refused.message(), "rows.jsonl:1")) << refused;
  spec.mutable_spec()->mutable_documents()->set_drop_too_long(true);
  spec.mutable_spec()->mutable_documents()->set_unix_line_ends(true);
  BDH_ASSERT_OK_AND_ASSIGN(const auto kept, Create({spec, Chunk("rows.jsonl", rows)}));
  EXPECT_EQ(kept.documents(), 20);
  EXPECT_EQ(kept.bytes_in(), 20 * 101);
}

TEST_F(DataLoaderTest, ADataSetOfTheHubIsFetchedOnceAndServedOfflineThen) {
  hub::HubServer there;
  std::string rows;
  for (int i = 0; i < 200; ++i)
    rows += absl::StrFormat("{\"text\": \"%s\"}\n", Text(50, static_cast<uint32_t>(i)));
  there.Put("datasets/owner/stories", {{"data/train.jsonl", rows}, {"README.md", "Stories."}});
  const auto with_hub = [&](bool offline) {
    Restart([&](Server::Options& options) {
      options.hub.endpoint = there.endpoint();
      options.hub.offline = offline;
    });
  };
  with_hub(false);
  std::vector<v1::CreateDatasetProgress> progress;
  BDH_ASSERT_OK_AND_ASSIGN(const auto stories,
                           Create({Spec("stories", {"hf://datasets/owner/stories"})}, &progress));
  EXPECT_EQ(stories.documents(), 200);
  with_hub(true);
  BDH_ASSERT_OK_AND_ASSIGN(const auto again, Create({Spec("again", {"hf://datasets/owner/stories"})}));
  EXPECT_EQ(again.hash(), stories.hash());
  auto live = Spec("live", {"hf://datasets/owner/stories"});
  live.mutable_spec()->set_streaming(true);
  BDH_EXPECT_OK(Create({live}));
  EXPECT_EQ(Create({Spec("none", {"hf://datasets/owner/none"})}).status().code(),
            absl::StatusCode::kNotFound);
  EXPECT_EQ(Create({Spec("none", {"no-such-set"})}).status().code(), absl::StatusCode::kNotFound);
  const auto two = Create({Spec("two", {"tinystories", "wikitext-2"})}).status();
  EXPECT_EQ(two.code(), absl::StatusCode::kInvalidArgument) << two;
}

TEST_F(DataLoaderTest, EveryCallNeedsTheMeshToken) {
  peer_ = std::make_unique<mesh::Peer>("bdh-data-loader", server_->address(), "wrong");
  stub_ = v1::DataLoaderService::NewStub(peer_->channel());
  constexpr auto kRefused = absl::StatusCode::kUnauthenticated;
  EXPECT_EQ(Upload("text", {{"a", Text(1000)}}).status().code(), kRefused);
  EXPECT_EQ(Collect(Batches("text", 0, 1)).status().code(), kRefused);
  EXPECT_EQ(Delete("text").code(), kRefused);
  EXPECT_EQ(peer_->Call(*stub_, &Stub::ListDatasets, v1::ListDatasetsRequest(), kTimeout).status().code(),
            kRefused);
  EXPECT_EQ(
      peer_->Call(*stub_, &Stub::DescribeDataset, v1::DescribeDatasetRequest(), kTimeout).status().code(),
      kRefused);
  EXPECT_EQ(peer_->Call(*stub_, &Stub::Tokenize, v1::TokenizeRequest(), kTimeout).status().code(), kRefused);
  EXPECT_EQ(peer_->Call(*stub_, &Stub::Detokenize, v1::DetokenizeRequest(), kTimeout).status().code(),
            kRefused);
}

}  // namespace
}  // namespace bdh::data_loader
