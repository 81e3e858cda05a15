#include "bdh/base/version.h"

namespace bdh {

const char* Version() {
  return BDH_VERSION;
}

}  // namespace bdh
