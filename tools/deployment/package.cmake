# What the projects beside this file share: where Python's packages are, and how this package's C++ is
# compiled, as mmdet_atc/native/build.py and clustering/forms/cpp.py do.
set(CMAKE_CXX_STANDARD 20)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release)
endif()
find_package(Python REQUIRED COMPONENTS Interpreter)

# Sets variables of the packages' names to their folders.
function(find_python_packages)
  list(JOIN ARGN " " names)
  execute_process(
    COMMAND ${Python_EXECUTABLE} -c "
from importlib.util import find_spec
print(*(find_spec(name).submodule_search_locations[0] for name in '${names}'.split()), sep=';', end='')"
    OUTPUT_VARIABLE folders ERROR_QUIET RESULT_VARIABLE failed)
  if(failed)
    list(JOIN ARGN " or " names)
    message(FATAL_ERROR "${Python_EXECUTABLE} has no ${names}: name another by -DPython_EXECUTABLE")
  endif()
  foreach(name folder IN ZIP_LISTS ARGN folders)
    set(${name} ${folder} PARENT_SCOPE)
  endforeach()
endfunction()

# The library `target` of the source `clustering` and others.
function(add_operators target clustering)
  add_library(${target} SHARED ${clustering} ${ARGN})
  target_include_directories(${target} PRIVATE ${mmdet_atc}/native/include)
  target_compile_options(${target} PRIVATE -O3 -march=native -pthread -fno-strict-aliasing)
  set_source_files_properties(${clustering} PROPERTIES
    COMPILE_OPTIONS "-ffp-contract=off;-fno-math-errno;-fno-trapping-math")
endfunction()
