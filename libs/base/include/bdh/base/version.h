#pragma once

namespace bdh {

// The release this binary was built from: "0.1.0".
const char* Version();

}  // namespace bdh
