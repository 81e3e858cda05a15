# Writes bytes of a file as a C++ array: cmake -D IN=file -D OUT=file.cc -D NAME=kName -P embed.cmake
file(READ ${IN} bytes HEX)
string(REGEX REPLACE "(................................)" "\\1\n" bytes "${bytes}")
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${bytes}")
file(WRITE ${OUT} "#include <cstddef>\nnamespace bdh::config {\nextern const unsigned char ${NAME}[];\nextern const std::size_t ${NAME}Size;\nconst unsigned char ${NAME}[] = {\n${bytes}};\nconst std::size_t ${NAME}Size = sizeof ${NAME};\n}  // namespace bdh::config\n")
