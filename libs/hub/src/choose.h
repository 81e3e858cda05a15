// Which files of a repository are meant.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "bdh/hub/hub.h"

namespace bdh::hub {

// Of a data set: what `configs:` at the head of its README says, else what names of folders and files say, as
// the hub's own library has it. An empty config is the default one; a split is "train" unless it is given.
// NotFoundError names those there are.
absl::StatusOr<std::vector<RemoteFile>> ChooseDataFiles(const std::vector<RemoteFile>& files,
                                                        std::string_view readme, std::string_view config,
                                                        std::string_view split);

// Of a model: weights, configuration and tokenizer in its main folder.
absl::StatusOr<std::vector<RemoteFile>> ChooseModelFiles(const std::vector<RemoteFile>& files);

}  // namespace bdh::hub
