// Proves TokenizerService over the wire: tokenizers that are trained or taken over make data sets, survive a
// restart, and are seen by every replica on the folder.
#include "services/data_loader/server_testing.h"

namespace bdh::data_loader {
namespace {

class TokenizersTest : public DataLoaderTest {
 protected:
  using Service = v1::TokenizerService::Stub;

  absl::StatusOr<v1::TokenizerInfo> Train(const v1::TrainTokenizerSpec& spec, const std::string& text) {
    const auto context = peer_->NewContext(kTimeout);
    const auto stub = v1::TokenizerService::NewStub(peer_->channel());
    const auto stream = stub->TrainTokenizer(context.get());
    v1::TrainTokenizerRequest request;
    *request.mutable_spec() = spec;
    stream->Write(request);
    if (!text.empty()) {
      request.mutable_chunk()->set_document("a.txt");
      request.mutable_chunk()->set_data(text);
      stream->Write(request);
    }
    stream->WritesDone();
    v1::TokenizerInfo info;
    for (v1::TrainTokenizerResponse response; stream->Read(&response);) {
      if (response.has_tokenizer()) info = response.tokenizer();
    }
    BDH_RETURN_IF_ERROR(peer_->Outcome(stream->Finish()));
    return info;
  }
  static v1::TrainTokenizerSpec TrainSpec(const std::string& name) {
    v1::TrainTokenizerSpec spec;
    spec.set_name(name);
    spec.set_kind(v1::TOKENIZER_KIND_BPE);
    spec.set_vocab_size(300);
    return spec;
  }
  static std::string English(int lines) {
    std::string text;
    for (int i = 0; i < lines; ++i)
      text += absl::StrFormat("the river runs over %d old stones and sings\n", i);
    return text;
  }
};

TEST_F(DataLoaderTest, TextGoesToTokensAndBack) {
  const std::string text("naïve \0 \xFF", 10);
  v1::TokenizeRequest tokenize;
  tokenize.set_text(text);
  BDH_ASSERT_OK_AND_ASSIGN(const auto tokens, peer_->Call(*stub_, &Stub::Tokenize, tokenize, kTimeout));
  EXPECT_EQ(tokens.tokens_size(), 10);
  v1::DetokenizeRequest detokenize;
  detokenize.set_tokenizer("byte");
  *detokenize.mutable_tokens() = tokens.tokens();
  BDH_ASSERT_OK_AND_ASSIGN(const auto back, peer_->Call(*stub_, &Stub::Detokenize, detokenize, kTimeout));
  EXPECT_EQ(back.text(), text);

  detokenize.add_tokens(256);
  const auto outside = peer_->Call(*stub_, &Stub::Detokenize, detokenize, kTimeout).status();
  EXPECT_EQ(outside.code(), absl::StatusCode::kInvalidArgument) << outside;
  tokenize.set_text(std::string((1 << 20) + 1, 'x'));
  const auto large = peer_->Call(*stub_, &Stub::Tokenize, tokenize, kTimeout).status();
  EXPECT_EQ(large.code(), absl::StatusCode::kInvalidArgument) << large;
  tokenize.set_tokenizer("gpt2");
  const auto unknown = peer_->Call(*stub_, &Stub::Tokenize, tokenize, kTimeout).status();
  EXPECT_EQ(unknown.code(), absl::StatusCode::kNotFound);
  EXPECT_TRUE(absl::StrContains(unknown.message(), "known ones are: byte")) << unknown;
}

TEST_F(TokenizersTest, OneThatIsTrainedMakesDataSetsAndTheirTextComesBack) {
  BDH_ASSERT_OK_AND_ASSIGN(const auto info, Train(TrainSpec("mine"), English(500)));
  EXPECT_EQ(info.name(), "mine");
  EXPECT_EQ(info.vocab_size(), 300);
  auto spec = Spec("text");
  spec.mutable_spec()->set_tokenizer("mine");
  std::vector<v1::CreateDatasetRequest> requests = {spec};
  std::string wanted;
  for (int i = 0; i < 120; ++i) {
    const std::string text = absl::StrFormat("stone %d: ", i) + English(i % 7 + 1);
    wanted += text;
    requests.push_back(Chunk(absl::StrFormat("d%d", i), text));
  }
  BDH_ASSERT_OK_AND_ASSIGN(const auto dataset, Create(requests));
  EXPECT_EQ(dataset.tokenizer(), "mine");
  EXPECT_TRUE(dataset.end_of_text());
  EXPECT_LT(dataset.train_tokens() + dataset.validation_tokens(), dataset.bytes_in() / 2);

  const auto lookup = v1::DatasetService::NewStub(peer_->channel());
  const auto context = peer_->NewContext(kTimeout);
  v1::ExportDatasetRequest whole;
  whole.set_dataset("text");
  const auto reader = lookup->ExportDataset(context.get(), whole);
  std::string together;
  for (v1::TextChunk chunk; reader->Read(&chunk);) together += chunk.data();
  BDH_ASSERT_OK(peer_->Outcome(reader->Finish()));
  EXPECT_EQ(together, wanted);

  const auto stub = v1::TokenizerService::NewStub(peer_->channel());
  v1::DescribeTokenizerRequest describe;
  describe.set_name("mine");
  BDH_ASSERT_OK_AND_ASSIGN(const auto described,
                           peer_->Call(*stub, &Service::DescribeTokenizer, describe, kTimeout));
  EXPECT_THAT(described.datasets(), ElementsAre("text"));
  v1::DeleteTokenizerRequest remove;
  remove.set_name("mine");
  const auto used = peer_->Call(*stub, &Service::DeleteTokenizer, remove, kTimeout).status();
  EXPECT_EQ(used.code(), absl::StatusCode::kFailedPrecondition) << used;
  BDH_ASSERT_OK(Delete("text"));
  BDH_EXPECT_OK(peer_->Call(*stub, &Service::DeleteTokenizer, remove, kTimeout));
}

TEST_F(TokenizersTest, OneThatIsTakenOverSurvivesARestartAndIsHandedOutAgain) {
  BDH_ASSERT_OK(Train(TrainSpec("mine"), English(500)));
  auto stub = v1::TokenizerService::NewStub(peer_->channel());
  v1::ExportTokenizerRequest export_request;
  export_request.set_name("mine");
  BDH_ASSERT_OK_AND_ASSIGN(const auto files,
                           peer_->Call(*stub, &Service::ExportTokenizer, export_request, kTimeout));
  v1::ImportTokenizerRequest import;
  import.set_name("theirs");
  *import.mutable_files() = files.files();
  BDH_ASSERT_OK(peer_->Call(*stub, &Service::ImportTokenizer, import, kTimeout));
  Restart();
  stub = v1::TokenizerService::NewStub(peer_->channel());
  BDH_ASSERT_OK_AND_ASSIGN(
      const auto list, peer_->Call(*stub, &Service::ListTokenizers, v1::ListTokenizersRequest(), kTimeout));
  ASSERT_EQ(list.tokenizers_size(), 3);
  EXPECT_EQ(list.tokenizers(0).name(), "byte");
  EXPECT_EQ(list.tokenizers(1).hash(), list.tokenizers(2).hash());
  v1::TokenizeRequest tokenize;
  tokenize.set_tokenizer("theirs");
  tokenize.set_text("the river sings");
  BDH_ASSERT_OK_AND_ASSIGN(const auto tokens, peer_->Call(*stub_, &Stub::Tokenize, tokenize, kTimeout));
  EXPECT_LT(tokens.tokens_size(), 10);
  v1::DetokenizeRequest detokenize;
  detokenize.set_tokenizer("theirs");
  *detokenize.mutable_tokens() = tokens.tokens();
  BDH_ASSERT_OK_AND_ASSIGN(const auto text, peer_->Call(*stub_, &Stub::Detokenize, detokenize, kTimeout));
  EXPECT_EQ(text.text(), "the river sings");
}

TEST_F(TokenizersTest, AReplicaOnTheFolderSeesWhatAnotherMakesAndDeletes) {
  Server::Options options = {.listen = {.credentials = "secret"}, .data_dir = data_dir()};
  BDH_ASSERT_OK_AND_ASSIGN(const auto replica, Server::Start(options));
  const mesh::Peer there("bdh-data-loader", replica->address(), "secret");
  const auto tokenizers = v1::TokenizerService::NewStub(there.channel());
  v1::DescribeTokenizerRequest describe;
  describe.set_name("mine");
  EXPECT_EQ(there.Call(*tokenizers, &Service::DescribeTokenizer, describe, kTimeout).status().code(),
            absl::StatusCode::kNotFound);

  BDH_ASSERT_OK_AND_ASSIGN(const auto mine, Train(TrainSpec("mine"), English(500)));
  auto spec = Spec("text");
  spec.mutable_spec()->set_tokenizer("mine");
  BDH_ASSERT_OK_AND_ASSIGN(const auto text, Create({spec, Chunk("a", English(300))}));
  BDH_ASSERT_OK_AND_ASSIGN(const auto seen,
                           there.Call(*tokenizers, &Service::DescribeTokenizer, describe, kTimeout));
  EXPECT_EQ(seen.tokenizer().hash(), mine.hash());
  EXPECT_THAT(seen.datasets(), ElementsAre("text"));
  BDH_ASSERT_OK_AND_ASSIGN(const auto list, there.Call(*tokenizers, &Service::ListTokenizers,
                                                       v1::ListTokenizersRequest(), kTimeout));
  EXPECT_EQ(list.tokenizers_size(), 2);
  BDH_ASSERT_OK_AND_ASSIGN(const auto here, Collect(Batches("text", 0, 3)));

  // From here on the client speaks with the replica.
  peer_ = std::make_unique<mesh::Peer>("bdh-data-loader", replica->address(), "secret");
  stub_ = v1::DataLoaderService::NewStub(peer_->channel());
  BDH_ASSERT_OK_AND_ASSIGN(const auto same, Collect(Batches("text", 0, 3)));
  EXPECT_EQ(same, here);
  spec.mutable_spec()->set_name("more");
  BDH_ASSERT_OK_AND_ASSIGN(const auto more, Create({spec, Chunk("a", English(300))}));
  EXPECT_EQ(more.hash(), text.hash());
  BDH_ASSERT_OK(Delete("more"));
  BDH_ASSERT_OK(Delete("text"));
  v1::DeleteTokenizerRequest remove;
  remove.set_name("mine");
  BDH_ASSERT_OK(peer_->Call(*tokenizers, &Service::DeleteTokenizer, remove, kTimeout));
  const mesh::Peer first("bdh-data-loader", server_->address(), "secret");
  const auto of_first = v1::TokenizerService::NewStub(first.channel());
  EXPECT_EQ(first.Call(*of_first, &Service::DescribeTokenizer, describe, kTimeout).status().code(),
            absl::StatusCode::kNotFound);
}

TEST_F(TokenizersTest, WrongTrainingsAreRefusedInASentence) {
  BDH_ASSERT_OK(Upload("text", {{"a", Text(1000)}}));
  auto name = TrainSpec("../up"), size = TrainSpec("a"), kind = TrainSpec("a"), both = TrainSpec("a"),
       none = TrainSpec("a"), missing = TrainSpec("a");
  size.set_vocab_size(3);
  kind.set_kind(v1::TOKENIZER_KIND_BYTE);
  both.set_dataset("text");
  both.add_paths("/srv");
  missing.set_dataset("none");
  const struct {
    v1::TrainTokenizerSpec spec;
    absl::StatusCode code;
  } kCases[] = {{name, absl::StatusCode::kInvalidArgument}, {size, absl::StatusCode::kInvalidArgument},
                {kind, absl::StatusCode::kInvalidArgument}, {both, absl::StatusCode::kInvalidArgument},
                {none, absl::StatusCode::kInvalidArgument}, {missing, absl::StatusCode::kNotFound}};
  for (const auto& test : kCases) {
    const auto status = Train(test.spec, "").status();
    EXPECT_EQ(status.code(), test.code) << status;
  }
}

}  // namespace
}  // namespace bdh::data_loader
