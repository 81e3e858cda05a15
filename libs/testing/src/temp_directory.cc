#include "bdh/testing/temp_directory.h"

#include <stdlib.h>

#include <cstdlib>
#include <filesystem>

#include "bdh/base/log.h"

namespace bdh {

TempDirectory::TempDirectory()
    : path_((std::filesystem::temp_directory_path() / "bdh-test-XXXXXX").string()) {
  BDH_CHECK(mkdtemp(path_.data()) != nullptr) << path_;
}

TempDirectory::~TempDirectory() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

}  // namespace bdh
