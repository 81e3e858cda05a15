// Names that become parts of paths and URLs: what a server or a person says of them is not believed.
#pragma once

#include <string_view>

namespace bdh::hub {

// "OWNER/NAME" or "NAME" of [A-Za-z0-9._-].
bool IsRepoName(std::string_view name);
// A branch, a tag, a commit, refs/...: parts of [A-Za-z0-9._+-] that are neither . nor ..
bool IsRevision(std::string_view revision);
// A path below a folder that cannot lead out of it.
bool IsRepoPath(std::string_view path);
// 40 lower-case hexadecimal digits.
bool IsCommit(std::string_view text);
bool IsSha256(std::string_view text);

}  // namespace bdh::hub
