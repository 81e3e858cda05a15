# How a target of this project is made. One call a target; everything it needs is in the call.
#
#   bdh_library(store SRCS ... DEPS <in our headers> PRIVATE_DEPS <in the .cc only> [PCH grpc|torch])
#   bdh_daemon(bdh-inference SRCS ... DEPS ... [PCH grpc|torch])
#   bdh_test(store_test SRCS ... DEPS ... LABELS unit [PCH grpc|torch] [WHOLE])
#   bdh_mesh_test(flow_fault_test LABELS faults [DEPS ...] [DAEMONS ...] [PCH grpc] [DEFAULT_PORTS])
#
# Labels: unit, tsan (also runs under ThreadSanitizer: no torch, no gRPC), integration, e2e, faults.
# PCH reuses one precompiled header of that kind; a file that includes torch/torch.h takes 25 s without.
# WHOLE registers the binary as one test instead of one a case, for cases that are slow to set up.
include(GoogleTest)
add_custom_target(tsan_tests COMMENT "Everything labelled tsan")

function(_bdh_target NAME)
  cmake_parse_arguments(A "" "PCH" "DEPS;PRIVATE_DEPS" ${ARGN})
  target_compile_options(${NAME} PRIVATE -Wall -Wextra -Werror ${BDH_EXTRA_WARNINGS})
  if(A_PCH AND BDH_PRECOMPILED_HEADERS)
    target_precompile_headers(${NAME} REUSE_FROM bdh_pch_${A_PCH})
  endif()
endfunction()

function(bdh_library NAME)
  cmake_parse_arguments(A "" "PCH" "SRCS;DEPS;PRIVATE_DEPS" ${ARGN})
  if(NOT A_SRCS)
    add_library(bdh_${NAME} INTERFACE)
    target_include_directories(bdh_${NAME} INTERFACE include)
    target_link_libraries(bdh_${NAME} INTERFACE ${A_DEPS})
  else()
    add_library(bdh_${NAME} STATIC ${A_SRCS})
    target_include_directories(bdh_${NAME} PUBLIC include PRIVATE src)
    target_link_libraries(bdh_${NAME} PUBLIC ${A_DEPS} PRIVATE ${A_PRIVATE_DEPS})
    _bdh_target(bdh_${NAME} PCH ${A_PCH})
  endif()
  add_library(bdh::${NAME} ALIAS bdh_${NAME})
endfunction()

# Binaries land in build/bin, whatever the preset's folder is.
function(bdh_daemon NAME)
  cmake_parse_arguments(A "" "PCH" "SRCS;DEPS" ${ARGN})
  add_executable(${NAME} ${A_SRCS})
  target_include_directories(${NAME} PRIVATE ${CMAKE_SOURCE_DIR})
  target_link_libraries(${NAME} PRIVATE ${A_DEPS})
  set_target_properties(${NAME} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
  _bdh_target(${NAME} PCH ${A_PCH})
  install(TARGETS ${NAME} RUNTIME COMPONENT runtime)
endfunction()

function(bdh_test NAME)
  cmake_parse_arguments(A "WHOLE" "PCH;TIMEOUT" "SRCS;DEPS;LABELS" ${ARGN})
  if(NOT BDH_TESTS)
    return()
  endif()
  if(NOT A_TIMEOUT)
    set(A_TIMEOUT 300)
  endif()
  add_executable(${NAME} ${A_SRCS})
  target_include_directories(${NAME} PRIVATE ${CMAKE_SOURCE_DIR})
  target_link_libraries(${NAME} PRIVATE ${A_DEPS} bdh::testing GTest::gmock GTest::gtest GTest::gtest_main)
  target_compile_definitions(${NAME} PRIVATE
    BDH_SOURCE_DIR="${CMAKE_SOURCE_DIR}" BDH_BIN_DIR="${CMAKE_BINARY_DIR}/bin")
  _bdh_target(${NAME} PCH ${A_PCH})
  if("tsan" IN_LIST A_LABELS)
    add_dependencies(tsan_tests ${NAME})
  endif()
  if(A_WHOLE)
    add_test(NAME ${NAME} COMMAND ${NAME})
    set_tests_properties(${NAME} PROPERTIES LABELS "${A_LABELS}" TIMEOUT ${A_TIMEOUT})
  else()
    gtest_discover_tests(${NAME} DISCOVERY_MODE PRE_TEST DISCOVERY_TIMEOUT 120 TEST_PREFIX "${NAME}.")
    # Not through its PROPERTIES: a list of labels would come apart there, and take the timeout with it.
    set(properties_file ${CMAKE_CURRENT_BINARY_DIR}/${NAME}_properties.cmake)
    file(WRITE ${properties_file}
      "if(${NAME}_TESTS)\n  set_tests_properties(\${${NAME}_TESTS} PROPERTIES LABELS \"${A_LABELS}\" TIMEOUT ${A_TIMEOUT})\nendif()\n")
    set_property(DIRECTORY APPEND PROPERTY TEST_INCLUDE_FILES ${properties_file})
  endif()
endfunction()

# A test in NAME.cc that runs the real binaries: DAEMONS, or every one that is built.
# DEFAULT_PORTS: it wants those of configs/default.yaml. Side by side, one's `up` may try a port just when the
# other's daemon restarts.
function(bdh_mesh_test NAME)
  cmake_parse_arguments(A "DEFAULT_PORTS" "PCH" "DEPS;LABELS;DAEMONS" ${ARGN})
  if(NOT BDH_TESTS)
    return()
  endif()
  if(NOT A_DAEMONS)
    set(A_DAEMONS bdhctl bdh-checkpoint-store bdh-data-loader bdh-trainer-worker bdh-inference bdh-gateway bdh-lab)
  endif()
  bdh_test(${NAME} SRCS ${NAME}.cc DEPS bdh_e2e_driver ${A_DEPS} LABELS ${A_LABELS} WHOLE TIMEOUT 600 PCH ${A_PCH})
  foreach(daemon IN LISTS A_DAEMONS)
    if(TARGET ${daemon})
      add_dependencies(${NAME} ${daemon})
    endif()
  endforeach()
  if(A_DEFAULT_PORTS)
    set_tests_properties(${NAME} PROPERTIES RESOURCE_LOCK default_ports)
  endif()
endfunction()

# protoc's output of all of protos/, once as messages (bdh::proto) and once as stubs (bdh::rpc).
function(bdh_protos)
  cmake_parse_arguments(A "" "" "PROTOS" ${ARGN})
  set(gen ${CMAKE_BINARY_DIR}/gen)
  file(MAKE_DIRECTORY ${gen})

  add_library(bdh_proto STATIC ${A_PROTOS})
  add_library(bdh::proto ALIAS bdh_proto)
  target_link_libraries(bdh_proto PUBLIC protobuf::libprotobuf)
  target_include_directories(bdh_proto SYSTEM PUBLIC $<BUILD_INTERFACE:${gen}> $<INSTALL_INTERFACE:include>)
  protobuf_generate(TARGET bdh_proto LANGUAGE cpp
    IMPORT_DIRS ${CMAKE_SOURCE_DIR}/protos PROTOC_OUT_DIR ${gen})

  add_library(bdh_rpc STATIC ${A_PROTOS})
  add_library(bdh::rpc ALIAS bdh_rpc)
  target_link_libraries(bdh_rpc PUBLIC bdh_proto gRPC::grpc++)
  protobuf_generate(TARGET bdh_rpc LANGUAGE grpc
    IMPORT_DIRS ${CMAKE_SOURCE_DIR}/protos PROTOC_OUT_DIR ${gen}
    GENERATE_EXTENSIONS .grpc.pb.h .grpc.pb.cc
    PLUGIN "protoc-gen-grpc=$<TARGET_FILE:gRPC::grpc_cpp_plugin>")
  add_dependencies(bdh_rpc bdh_proto)
  set_target_properties(bdh_proto PROPERTIES EXPORT_NAME proto)
  set_target_properties(bdh_rpc PROPERTIES EXPORT_NAME rpc)
endfunction()
