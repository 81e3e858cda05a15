// Files of torch.save: what real PyTorch wrote is read element for element (testdata/make_torch_files.py made
// the files), and no file makes us run code, allocate what it only claims to hold, or read outside it. Bad
// files are made by hand, byte for byte; the last tests try thousands at random.

#include "bdh/tensorfile/torch_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zlib.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>

#include "bdh/base/file.h"
#include "bdh/tensorfile/safetensors.h"
#include "bdh/testing/status_matchers.h"
#include "bdh/testing/temp_directory.h"
#include "pickle.h"

namespace bdh::tensorfile {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string TestFile(const std::string& name) {
  return std::string(BDH_SOURCE_DIR "/libs/tensorfile/testdata/") + name;
}

// What make_torch_files.py puts into every tensor.
std::vector<float> Numbers(int64_t count) {
  std::vector<float> numbers;
  for (int64_t i = 0; i < count; ++i) numbers.push_back(static_cast<float>(i * 7 % 31 - 15) / 64);
  return numbers;
}

template <class T>
std::vector<T> ElementsOf(const std::string& bytes) {
  std::vector<T> elements(bytes.size() / sizeof(T));
  std::memcpy(elements.data(), bytes.data(), bytes.size());
  return elements;
}

const TorchValue* At(const TorchValue& value, std::string_view key) {
  const auto* dict = value.As<TorchDict>();
  if (dict == nullptr || !dict->contains(key)) return nullptr;
  return dict->find(key)->second;
}

const TorchTensor& TensorAt(const TorchValue& value, std::string_view key) {
  static const TorchTensor none;
  const TorchValue* found = At(value, key);
  EXPECT_TRUE(found != nullptr && found->As<TorchTensor>() != nullptr) << key;
  return found != nullptr && found->As<TorchTensor>() != nullptr ? *found->As<TorchTensor>() : none;
}

std::string Number(uint64_t value, int bytes) {
  std::string out;
  for (int i = 0; i < bytes; ++i, value >>= 8) out.push_back(static_cast<char>(value & 0xff));
  return out;
}

// An entry and what is said about it; the true values unless a test spoils them.
struct Entry {
  std::string name, bytes;
  uint64_t method = 0, flags = 0;
  uint64_t size_bytes = bytes.size();
  uint64_t crc = crc32(0, reinterpret_cast<const Bytef*>(bytes.data()), static_cast<uInt>(bytes.size()));
};

std::string Zip(const std::vector<Entry>& entries, bool all_at_the_first = false) {
  std::string file, directory;
  for (const Entry& entry : entries) {
    const size_t begin = all_at_the_first ? 0 : file.size();
    const std::string fields = Number(entry.flags, 2) + Number(entry.method, 2) + Number(0, 4) +
                               Number(entry.crc, 4) + Number(entry.bytes.size(), 4) +
                               Number(entry.size_bytes, 4) + Number(entry.name.size(), 2);
    file += "PK\3\4" + Number(20, 2) + fields + Number(0, 2) + entry.name + entry.bytes;
    directory +=
        "PK\1\2" + Number(20, 2) + Number(20, 2) + fields + Number(0, 12) + Number(begin, 4) + entry.name;
  }
  const size_t begin = file.size();
  return file + directory + "PK\5\6" + Number(0, 4) + Number(entries.size(), 2) + Number(entries.size(), 2) +
         Number(directory.size(), 4) + Number(begin, 4) + Number(0, 2);
}

// Pieces of pickles.
std::string Text(const std::string& text) {
  return "X" + Number(text.size(), 4) + text;
}
std::string Global(const std::string& module, const std::string& name) {
  return "c" + module + "\n" + name + "\n";
}
std::string Int(int64_t value) {
  return "\x8a\x08" + Number(static_cast<uint64_t>(value), 8);
}
std::string Ints(const std::vector<int64_t>& values) {
  std::string out = "(";
  for (const int64_t value : values) out += Int(value);
  return out + "t";
}
std::string Storage(const std::string& type, const std::string& key, int64_t elements) {
  return "(" + Text("storage") + Global("torch", type) + Text(key) + Text("cpu") + Int(elements) + "tQ";
}
std::string Tensor(const std::string& storage, int64_t offset, const std::vector<int64_t>& shape,
                   const std::vector<int64_t>& strides) {
  return Global("torch._utils", "_rebuild_tensor_v2") + "(" + storage + Int(offset) + Ints(shape) +
         Ints(strides) + "\x89" + Global("collections", "OrderedDict") + ")RtR";
}
std::string Pickle(const std::string& body) {
  return "\x80\x02" + body + ".";
}
std::string Dict(const std::string& key, const std::string& value) {
  return "}" + Text(key) + value + "s";
}

class TorchFileTest : public ::testing::Test {
 protected:
  std::string Write(const std::string& bytes) const {
    const std::string path = folder_.path() + "/file.pt";
    std::filesystem::remove(
        path);  // Some file systems sync a file that is written over, and here are thousands.
    std::ofstream(path, std::ios::binary) << bytes;
    return path;
  }
  // A file whose pickle is `body`, with one storage of `storage_bytes` zeros under the key 0.
  std::string WritePickle(const std::string& body, size_t storage_bytes = 16) const {
    return Write(Zip({{"m/data.pkl", Pickle(body)}, {"m/data/0", std::string(storage_bytes, '\0')}}));
  }
  static std::string Complaint(const absl::Status& status) {
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    return std::string(status.message());
  }
  std::string OpenComplaint(const std::string& path) const {
    return Complaint(TorchFile::Open(path).status());
  }
  // Of reading the tensor w of a file that opens.
  std::string ReadComplaint(const std::string& tensor, size_t storage_bytes = 16) const {
    const auto file = TorchFile::Open(WritePickle(Dict("w", tensor), storage_bytes));
    EXPECT_TRUE(file.ok()) << file.status();
    return file.ok() ? Complaint(file->Bytes("w", TensorAt(file->root(), "w")).status()) : "";
  }

  TempDirectory folder_;
};

TEST_F(TorchFileTest, AStateDictOfPyTorchIsReadToTheLastElement) {
  BDH_ASSERT_OK_AND_ASSIGN(const TorchFile file, TorchFile::Open(TestFile("state_dict.pt")));
  ASSERT_NE(file.root().As<TorchDict>(), nullptr);
  EXPECT_EQ(file.root().As<TorchDict>()->size(), 6u);
  for (const auto& [name, shape] : std::map<std::string, std::vector<int64_t>>{
           {"embed.weight", {10, 4}}, {"encoder", {2, 4, 8}}, {"decoder", {16, 4}}, {"lm_head", {4, 10}}}) {
    const TorchTensor& tensor = TensorAt(file.root(), name);
    EXPECT_EQ(tensor.shape, shape);
    EXPECT_EQ(tensor.storage.dtype, "F32");
    BDH_ASSERT_OK_AND_ASSIGN(const std::string bytes, file.Bytes(name, tensor));
    EXPECT_EQ(ElementsOf<float>(bytes), Numbers(static_cast<int64_t>(bytes.size()) / 4)) << name;
  }
  EXPECT_THAT(TensorAt(file.root(), "attn.freqs").shape, ElementsAre(1, 1, 1, 8));
}

TEST_F(TorchFileTest, ATrainingCheckpointWithItsOptimiserIsRead) {
  BDH_ASSERT_OK_AND_ASSIGN(const TorchFile file, TorchFile::Open(TestFile("training.pt")));
  EXPECT_EQ(*At(file.root(), "step")->As<int64_t>(), 1234);
  EXPECT_EQ(*At(file.root(), "val_loss")->As<double>(), 1.5);
  EXPECT_EQ(*At(*At(file.root(), "config"), "n_layer")->As<int64_t>(), 3);
  const TorchTensor& encoder = TensorAt(*At(file.root(), "model_state_dict"), "_orig_mod.module.encoder");
  EXPECT_EQ(encoder.storage.dtype, "BF16");
  BDH_ASSERT_OK_AND_ASSIGN(const std::string bytes, file.Bytes("encoder", encoder));
  std::vector<float> floats;  // A BF16 is the upper half of a float.
  for (const uint16_t half : ElementsOf<uint16_t>(bytes)) {
    const uint32_t bits = uint32_t{half} << 16;
    std::memcpy(&floats.emplace_back(), &bits, sizeof(bits));
  }
  EXPECT_EQ(floats, Numbers(64));
}

TEST_F(TorchFileTest, ViewsAreReadInTheOrderOfTheirElements) {
  BDH_ASSERT_OK_AND_ASSIGN(const TorchFile file, TorchFile::Open(TestFile("views.pth")));
  const TorchValue& weights = *At(file.root(), "state_dict");
  const TorchTensor& decoder = TensorAt(weights, "decoder");
  EXPECT_EQ(decoder.storage.dtype, "F64");
  EXPECT_THAT(decoder.strides, ElementsAre(1, 16));
  BDH_ASSERT_OK_AND_ASSIGN(const std::string turned, file.Bytes("decoder", decoder));
  const auto numbers = Numbers(64);
  EXPECT_EQ(ElementsOf<double>(turned), std::vector<double>(numbers.begin(), numbers.end()));
  for (const char* name : {"encoder", "encoder_v"}) {  // The middle of one storage, both.
    BDH_ASSERT_OK_AND_ASSIGN(const std::string bytes, file.Bytes(name, TensorAt(weights, name)));
    EXPECT_EQ(ElementsOf<float>(bytes), numbers) << name;
  }
  EXPECT_EQ(TensorAt(weights, "lm_head").storage.dtype, "F16");
}

TEST_F(TorchFileTest, AnObjectIsNotMadeButNamed) {
  EXPECT_THAT(OpenComplaint(TestFile("whole_module.pt")),
              HasSubstr("asks for the Python object __main__.BDH"));
  const std::string attack = Global("os", "system") + "(" + Text("echo pwned") + "tR";
  EXPECT_THAT(OpenComplaint(WritePickle(attack)), HasSubstr("asks for the Python object os.system"));
  // The same with the names on the stack.
  EXPECT_THAT(OpenComplaint(WritePickle(Text("posix") + Text("system") + "\x93")), HasSubstr("posix.system"));
  EXPECT_THAT(OpenComplaint(WritePickle("i" + std::string("os\nsystem\n"))), HasSubstr("opcode 0x69"));
  EXPECT_THAT(OpenComplaint(WritePickle(")\x81")), HasSubstr("opcode 0x81"));
  EXPECT_THAT(OpenComplaint(WritePickle("]N" + std::string("b"))), HasSubstr("sets attributes of an object"));
}

TEST_F(TorchFileTest, TheOldFormatIsRefusedWithTheWayOut) {
  EXPECT_THAT(OpenComplaint(TestFile("old_format.pt")), HasSubstr("torch.save(torch.load(old"));
}

TEST_F(TorchFileTest, AnyCutIsRefused) {
  for (const char* name : {"state_dict.pt", "training.pt"}) {
    BDH_ASSERT_OK_AND_ASSIGN(const std::string bytes, ReadFile(TestFile(name)));
    for (size_t size = 0; size < bytes.size(); size += 7) {
      EXPECT_FALSE(TorchFile::Open(Write(bytes.substr(0, size))).ok()) << name << " of " << size;
    }
  }
}

TEST_F(TorchFileTest, AFlippedBitIsFoundByTheChecksum) {
  const Entry pickle{"m/data.pkl", Pickle(Dict("w", Tensor(Storage("FloatStorage", "0", 4), 0, {4}, {1})))};
  Entry storage{"m/data/0", std::string(16, '\0')};
  storage.crc ^= 1;
  BDH_ASSERT_OK_AND_ASSIGN(const TorchFile file, TorchFile::Open(Write(Zip({pickle, storage}))));
  const absl::Status status = file.Bytes("w", TensorAt(file.root(), "w")).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(status.message()), HasSubstr("tensor w: entry m/data/0 is damaged"));
}

TEST_F(TorchFileTest, ArchivesThatTorchDoesNotWriteAreRefused) {
  const Entry pickle{"m/data.pkl", Pickle("}")};
  Entry bomb{"m/data/0", "x"};
  bomb.method = 8;
  bomb.size_bytes = 0xfffffff0;
  EXPECT_THAT(OpenComplaint(Write(Zip({pickle, bomb}))), HasSubstr("entry m/data/0 is compressed"));
  Entry liar{"m/data/0", "x"};
  liar.size_bytes = 1 << 30;
  EXPECT_THAT(OpenComplaint(Write(Zip({pickle, liar}))), HasSubstr("is compressed (method 0"));
  Entry secret{"m/data/0", "x"};
  secret.flags = 1;
  EXPECT_THAT(OpenComplaint(Write(Zip({pickle, secret}))), HasSubstr("is encrypted"));
  EXPECT_THAT(OpenComplaint(Write(Zip({pickle, pickle}))), HasSubstr("m/data.pkl is there twice"));
  EXPECT_THAT(OpenComplaint(Write(Zip({pickle, {"m/data/0", pickle.bytes}}, /*all_at_the_first=*/true))),
              HasSubstr("lies inside another entry"));
  EXPECT_THAT(OpenComplaint(Write(Zip({{"m/other", "x"}}))), HasSubstr("has no entry data.pkl"));
  EXPECT_THAT(OpenComplaint(Write(Zip({pickle, {"n/data.pkl", "x"}}))), HasSubstr("two entries data.pkl"));
  EXPECT_THAT(OpenComplaint(Write(Zip({pickle, {"m/byteorder", "big"}}))), HasSubstr("big-endian"));
  EXPECT_THAT(OpenComplaint(Write("PK\3\4 and nothing else")), HasSubstr("has no end record"));
  EXPECT_THAT(OpenComplaint(Write("")), HasSubstr("has no end record"));
}

TEST_F(TorchFileTest, TensorsThatDoNotFitTheirStorageAreRefusedByName) {
  const std::string storage = Storage("FloatStorage", "0", 4);
  EXPECT_THAT(ReadComplaint(Tensor(storage, 0, {5}, {1})), HasSubstr("tensor w reaches to element 5"));
  EXPECT_THAT(ReadComplaint(Tensor(storage, 3, {2}, {1})), HasSubstr("tensor w reaches to element 5"));
  EXPECT_THAT(ReadComplaint(Tensor(storage, 0, {1 << 30, 1 << 30}, {0, 0})), HasSubstr("tensor w repeats"));
  EXPECT_THAT(ReadComplaint(Tensor(storage, 0, {int64_t{1} << 62, 4}, {4, 1})),
              HasSubstr("tensor w has a shape too large"));
  EXPECT_THAT(ReadComplaint(Tensor(storage, 0, {4}, {1}), 12),
              HasSubstr("tensor w has a storage of 12 bytes"));
  EXPECT_THAT(ReadComplaint(Tensor(Storage("LongStorage", "0", 4), 0, {4}, {1})), HasSubstr("of I64"));
  const auto file =
      TorchFile::Open(WritePickle(Dict("w", Tensor(Storage("FloatStorage", "1", 4), 0, {4}, {1}))));
  BDH_ASSERT_OK(file.status());
  EXPECT_THAT(std::string(file->Bytes("w", TensorAt(file->root(), "w")).status().message()),
              HasSubstr("tensor w: there is no entry m/data/1"));
}

TEST_F(TorchFileTest, PicklesThatMakeNoSenseAreRefused) {
  const std::pair<std::string, const char*> cases[] = {
      {"", "takes more from its stack than is on it"},
      {"a", "takes more from its stack"},
      {"t", "has no mark"},
      {"h\x05", "recalls value 5, which it never stored"},
      {"X" + Number(100, 4) + "short", "ends in the middle"},
      {"X" + Number(2, 4) + "\xff\xff", "not UTF-8"},
      {"]" + Text("x") + Text("y") + "s", "what is no dict"},
      {"}" + Text("x") + "a", "appends to what is no list"},
      {"}" + Text("x") + "Ns" + Text("x") + "Ns", "sets the key x twice"},
      {"}(" + Text("x") + "u", "a key without a value"},
      {"}NNs", "a key that is no text"},
      {"}" + Text(std::string(300, 'k')) + "Ns", "a key of over 256 bytes"},
      {"\x8a\x09" + std::string(9, '\1'), "more than 64 bits"},
      {"NQ", "refers to something that is no storage"},
      {Global("torch", "FloatStorage") + ")R", "calls torch FloatStorage with nothing"},
      {Global("torch._utils", "_rebuild_tensor_v2") + ")R", "makes a tensor without a storage"},
      {Tensor(Storage("FloatStorage", "0", 4), -1, {4}, {1}), "makes a tensor without a storage"},
      {Tensor(Storage("FloatStorage", "0", 4), 0, {4}, {1, 1}), "makes a tensor without a storage"},
      {Tensor(Storage("FloatStorage", "0", 4), 0, std::vector<int64_t>(40, 1), std::vector<int64_t>(40, 1)),
       "makes a tensor without a storage"},
  };
  for (const auto& [body, complaint] : cases) {
    EXPECT_THAT(OpenComplaint(WritePickle(body)), HasSubstr(complaint));
  }
  EXPECT_THAT(OpenComplaint(Write(Zip({{"m/data.pkl", "\x80\x01}."}}))),
              HasSubstr("protocol 1; want 2 to 5"));
}

TEST_F(TorchFileTest, APickleMayNotGrowWithoutBound) {
  EXPECT_THAT(OpenComplaint(WritePickle(std::string(kMaxPickleValues + 1, 'N'))),
              HasSubstr("has more than 1000000 values"));
  EXPECT_THAT(OpenComplaint(WritePickle(std::string(kMaxPickleBytes, '('))),
              HasSubstr("want at most 16777216"));
}

// Opens `path` as both kinds of file and reads whatever opens.
int ReadAll(const std::string& path) {
  int read = 0;
  if (const auto file = SafetensorsFile::Open(path); file.ok()) {
    for (const auto& tensor : file->tensors()) read += file->Bytes(tensor.name).ok();
  }
  if (const auto file = TorchFile::Open(path); file.ok()) {
    if (const auto* dict = file->root().As<TorchDict>(); dict != nullptr) {
      for (const auto& [name, value] : *dict) {
        if (const auto* tensor = value->As<TorchTensor>()) read += file->Bytes(name, *tensor).ok();
      }
    }
  }
  return read;
}

void Damage(std::mt19937& random, std::string& bytes) {
  for (int n = static_cast<int>(random() % 4) + 1; n > 0 && !bytes.empty(); --n) {
    const size_t at = random() % bytes.size();
    switch (random() % 4) {
      case 0:
        bytes[at] = static_cast<char>(random());
        break;
      case 1:
        bytes[at] = static_cast<char>(bytes[at] ^ 1 << random() % 8);
        break;
      case 2:
        bytes.erase(at, random() % 16 + 1);
        break;
      default:
        bytes.insert(at, bytes.substr(random() % bytes.size(), random() % 16 + 1));
    }
  }
}

TEST_F(TorchFileTest, RandomDamageIsRefusedOrHarmless) {
  std::mt19937 random(20);
  BDH_ASSERT_OK_AND_ASSIGN(const std::string torch, ReadFile(TestFile("state_dict.pt")));
  const std::vector<float> values = Numbers(12);
  const std::string safetensors = folder_.path() + "/good.safetensors";
  const std::string_view bytes(reinterpret_cast<const char*>(values.data()), 48);
  BDH_ASSERT_OK(WriteSafetensors(safetensors, {{"a", "F32", {3, 4}, bytes}, {"b", "BF16", {24}, bytes}}));
  BDH_ASSERT_OK_AND_ASSIGN(const std::string header, ReadFile(safetensors));
  int opened = 0;
  for (int round = 0; round < 4000; ++round) {
    std::string damaged = round % 2 == 0 ? torch : header;
    Damage(random, damaged);
    opened += ReadAll(Write(damaged)) > 0;
  }
  EXPECT_GT(opened, 0);  // Damage to the elements of a tensor, for one, shows nowhere in a safetensors file.
  EXPECT_LT(opened, 2000);
}

// Past the checksum, straight into the unpickler.
TEST_F(TorchFileTest, RandomPicklesAreRefusedOrHarmless) {
  std::mt19937 random(21);
  const std::string good =
      Pickle(Dict("w", Tensor(Storage("FloatStorage", "0", 4), 0, {2, 2}, {2, 1}) + "q\1") + "q\2" +
             Text("l") + "](K\1K\2h\1es");
  int understood = 0;
  for (int round = 0; round < 20'000; ++round) {
    std::string damaged = good;
    Damage(random, damaged);
    std::deque<TorchValue> values;
    understood += ReadPickle(damaged, values).ok();
  }
  EXPECT_GT(understood, 0);
  std::deque<TorchValue> values;
  BDH_EXPECT_OK(ReadPickle(good, values).status());
}

}  // namespace
}  // namespace bdh::tensorfile
