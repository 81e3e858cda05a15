#include "audit.h"

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_format.h"
#include "bdh/base/status_macros.h"
#include "draft.h"
#include "manifest.h"
#include "reader.h"

namespace bdh::store {
namespace {

// What is known of a chunk after it was read once.
using Verdicts = absl::flat_hash_map<Digest, absl::Status>;

class Auditor {
 public:
  Auditor(const Database& database, const Catalog& catalog, const Chunks& chunks)
      : database_(database), catalog_(catalog), chunks_(chunks), view_(database, chunks.packs()) {}

  absl::StatusOr<Store::Audit> Run() {
    const auto order = database_.NewIterator(Table::kOrder, view_.snapshot());
    for (order->SeekToFirst(); order->Valid(); order->Next()) {
      ++audit_.checkpoints;
      CheckCheckpoint(ToView(order->value()), ParseIdKey(ToView(order->key())));
    }
    BDH_RETURN_IF_ERROR(database_.ToStatus(order->status(), "walk the checkpoints"));
    BDH_ASSIGN_OR_RETURN(const auto blobs,
                         ScanRecords(database_, own::kBlobs, "", "", SIZE_MAX, view_.snapshot()));
    for (const Record& blob : blobs) CheckBlob(blob.value);
    CountOrphans();
    return std::move(audit_);
  }

 private:
  void CheckCheckpoint(std::string_view name, uint64_t id) {
    const auto record = catalog_.Find(name, view_.snapshot());
    if (!record.ok()) return Report(record.status());
    if (record->id() != id) {
      return Report(absl::DataLossError(absl::StrFormat("%s: its id is not the one it is listed by", name)));
    }
    const auto manifest = catalog_.ManifestOf(*record, view_.snapshot());
    if (!manifest.ok()) return Report(manifest.status());
    for (const v1::StoredTensor& tensor : manifest->tensors()) {
      CheckTensor(record->name(), tensor, static_cast<int64_t>(manifest->chunk_bytes()));
    }
  }

  void CheckBlob(std::string_view bytes) {
    ++audit_.blobs;
    v1::StoredBlob blob;
    if (const auto status = ParseRecordInto(bytes, "a blob", blob); !status.ok()) return Report(status);
    const auto stored = database_.Get(Table::kManifests, IdKey(blob.id()), view_.snapshot());
    if (!stored.ok()) return Report(absl::DataLossError(blob.label() + ": its manifest is gone"));
    const auto manifest = ParseManifest(*stored);
    if (!manifest.ok()) return Report(manifest.status());
    for (const v1::StoredTensor& tensor : manifest->tensors()) {
      CheckTensor(blob.label(), tensor, static_cast<int64_t>(manifest->chunk_bytes()));
    }
  }

  void CheckTensor(std::string_view checkpoint, const v1::StoredTensor& tensor, int64_t chunk_bytes) {
    const int64_t size = tensor.info().size_bytes();
    for (int64_t i = 0; i < ChunkCount(size, chunk_bytes); ++i) {
      const auto digest = Digest::FromBytes(
          std::string_view(tensor.chunk_digests()).substr(i * Digest::kBytes, Digest::kBytes));
      auto [verdict, fresh] = verdicts_.try_emplace(digest);
      if (fresh) {
        verdict->second =
            chunks_.Read(view_.snapshot(), digest, ChunkSize(size, chunk_bytes, i), sha_, buffer_);
        audit_.chunk_bytes += ChunkSize(size, chunk_bytes, i);
      }
      if (!verdict->second.ok()) {
        return Report(absl::DataLossError(absl::StrFormat(
            "%s: %s", TensorInWords(tensor.info().name(), checkpoint), verdict->second.message())));
      }
    }
  }

  void CountOrphans() {
    audit_.chunks = static_cast<int64_t>(verdicts_.size());
    const auto visit = [&](const Digest& digest, int64_t) {
      if (verdicts_.contains(digest)) return true;
      const auto holders = catalog_.HoldersOf(digest.view());
      if (!holders.ok() || !holders->any()) ++audit_.orphans;
      return true;
    };
    if (const auto status = chunks_.Walk(view_.snapshot(), "", visit); !status.ok()) Report(status);
  }

  void Report(const absl::Status& status) { audit_.damaged.emplace_back(status.message()); }

  const Database& database_;
  const Catalog& catalog_;
  const Chunks& chunks_;
  const View view_;
  Store::Audit audit_;
  Verdicts verdicts_;
  Sha256 sha_;
  std::string buffer_;
};

}  // namespace

absl::StatusOr<Store::Audit> CheckEverything(const Database& database, const Catalog& catalog,
                                             const Chunks& chunks) {
  return Auditor(database, catalog, chunks).Run();
}

}  // namespace bdh::store
