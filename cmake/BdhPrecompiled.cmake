# One precompiled header a kind, shared by every target that asks for it with PCH.
# Reuse wants equal flags on both sides, so what a kind needs is linked here and nowhere else set.
function(_bdh_pch KIND)
  cmake_parse_arguments(A "" "" "HEADERS;DEPS" ${ARGN})
  set(source ${CMAKE_BINARY_DIR}/pch_${KIND}.cc)
  if(NOT EXISTS ${source})
    file(WRITE ${source} "")
  endif()
  add_library(bdh_pch_${KIND} STATIC ${source})
  target_link_libraries(bdh_pch_${KIND} PUBLIC ${A_DEPS})
  target_precompile_headers(bdh_pch_${KIND} PRIVATE ${A_HEADERS})
  target_compile_options(bdh_pch_${KIND} PRIVATE -Wall -Wextra -Werror ${BDH_EXTRA_WARNINGS})
endfunction()

option(BDH_PRECOMPILED_HEADERS "Precompile the big third-party headers" ON)
if(BDH_PRECOMPILED_HEADERS)
  _bdh_pch(grpc DEPS gRPC::grpc++ absl::statusor absl::str_format
    HEADERS <map> <memory> <string> <vector> <functional> <grpcpp/grpcpp.h> <absl/status/statusor.h>
            <absl/strings/str_format.h>)
  if(BDH_TORCH)
    # ivalue.h first: without it, clang does not compile LibTorch 1.13's headers as C++20.
    _bdh_pch(torch DEPS bdh::torch HEADERS <ATen/core/ivalue.h> <torch/torch.h>)
  endif()
endif()
