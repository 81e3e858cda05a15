// Small records that other parts of the mesh keep in the store's database: groups, values, notes, runs. A
// change of records is one step together with whatever else it belongs to: a checkpoint that is committed, a
// blob that is replaced.
//
//   BDH_RETURN_IF_ERROR(store.Write([&](Transaction& transaction) -> absl::Status {
//     BDH_ASSIGN_OR_RETURN(const auto group, transaction.Get("groups", name));
//     if (!group.has_value()) return absl::NotFoundError("no such group");   // Nothing is changed.
//     transaction.Put("groups", name, Raised(*group));
//     return absl::OkStatus();
//   }));
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace bdh::store {

struct Record {
  std::string key;
  std::string value;
};

// What a change sees and does. Changes run one after another: what is read stays true until the change is
// durable. Used in the function it was given to only.
class Transaction {
 public:
  virtual ~Transaction() = default;

  // Tables are named 1 to 32 of [a-z_]; they need not be made. Keys and values are any bytes.
  // The value as this change leaves it; nullopt: there is none.
  virtual absl::StatusOr<std::optional<std::string>> Get(std::string_view table, std::string_view key) = 0;
  // As they were before this change: keys that begin with `prefix` and are greater than `after`, ascending.
  virtual absl::StatusOr<std::vector<Record>> Scan(std::string_view table, std::string_view prefix,
                                                   std::string_view after, size_t limit) = 0;
  virtual void Put(std::string_view table, std::string_view key, std::string_view value) = 0;
  virtual void Delete(std::string_view table, std::string_view key) = 0;

  // Forgets a blob in the same step; its chunks are freed afterwards. No such blob is OK.
  virtual absl::Status DeleteBlob(uint64_t id) = 0;
};

// An error it returns undoes all, and is what the caller gets. It runs under the store's lock: it must be
// quick and must not call the store. Empty: nothing more is changed.
using Change = std::function<absl::Status(Transaction&)>;

}  // namespace bdh::store
