# What `cmake --install` ships beside the binaries (bdh_daemon sees to those): what a program of somebody else's needs
# to speak with the mesh, and configuration to begin with.
#
#   bin/                    daemons and bdhctl
#   include/bdh/v1/, lib/   messages and stubs, compiled
#   lib/cmake/bdh/          find_package(bdh) -> bdh::proto, bdh::rpc
#   share/bdh/protos/       for other languages
#   share/bdh/configs/      examples, and the schema for editors
#
# Component runtime is bin/ and share/, devel the rest.
include(CMakePackageConfigHelpers)
include(GNUInstallDirs)

install(TARGETS bdh_proto bdh_rpc EXPORT bdh ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT devel)
install(EXPORT bdh NAMESPACE bdh:: FILE bdhTargets.cmake DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/bdh
  COMPONENT devel)
install(DIRECTORY ${CMAKE_BINARY_DIR}/gen/bdh DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} COMPONENT devel
  FILES_MATCHING PATTERN "*.pb.h")
install(DIRECTORY protos/bdh DESTINATION ${CMAKE_INSTALL_DATADIR}/bdh/protos COMPONENT runtime
  FILES_MATCHING PATTERN "*.proto")
install(DIRECTORY configs DESTINATION ${CMAKE_INSTALL_DATADIR}/bdh COMPONENT runtime)

configure_package_config_file(cmake/bdhConfig.cmake.in ${CMAKE_BINARY_DIR}/bdhConfig.cmake
  INSTALL_DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/bdh
  PATH_VARS CMAKE_INSTALL_DATADIR)
# Before 1.0 a minor version may break what compiles against it.
write_basic_package_version_file(${CMAKE_BINARY_DIR}/bdhConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_BINARY_DIR}/bdhConfig.cmake ${CMAKE_BINARY_DIR}/bdhConfigVersion.cmake
  DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/bdh COMPONENT devel)
