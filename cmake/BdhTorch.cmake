# bdh::torch: LibTorch without what its package config drags in (C++14 flags, its own warnings).
# Debian's package and the official zip both work; set CMAKE_PREFIX_PATH for the latter.
option(BDH_TORCH "Build what needs LibTorch: model, training, bdh-trainer-worker, bdh-lab" ON)
if(BDH_TORCH)
  # Caffe2's config puts -std=gnu++14 and -D flags into these; this project sets its own.
  set(saved_flags "${CMAKE_CXX_FLAGS}")
  find_package(Torch REQUIRED QUIET)
  set(CMAKE_CXX_FLAGS "${saved_flags}")
  set_property(TARGET torch torch_cpu c10 PROPERTY INTERFACE_COMPILE_OPTIONS "")
  set_property(TARGET torch torch_cpu c10 PROPERTY INTERFACE_COMPILE_FEATURES "")
  add_library(bdh_torch INTERFACE)
  add_library(bdh::torch ALIAS bdh_torch)
  target_include_directories(bdh_torch SYSTEM INTERFACE ${TORCH_INCLUDE_DIRS})
  target_link_libraries(bdh_torch INTERFACE ${TORCH_LIBRARIES})
  # With a sanitizer gcc 12 sees what is not there in LibTorch's optional arguments.
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_FLAGS MATCHES "-fsanitize")
    target_compile_options(bdh_torch INTERFACE -Wno-maybe-uninitialized)
  endif()
  if(TORCH_CXX_FLAGS MATCHES "_GLIBCXX_USE_CXX11_ABI=0")
    message(FATAL_ERROR "this LibTorch uses the old C++ ABI; take the cxx11-abi build")
  endif()
endif()
