# The libraries of matrix products: OpenBLAS in its OpenMP build, so that one thread pool serves all, and oneDNN where it is found.
include(CheckCSourceCompiles)

set(arch ${CMAKE_LIBRARY_ARCHITECTURE})
find_path(DC_CBLAS_INCLUDE cblas.h HINTS /usr/include/${arch}/openblas-openmp
    PATH_SUFFIXES openblas-openmp openblas REQUIRED)
find_library(DC_OPENBLAS NAMES openblas HINTS /usr/lib/${arch}/openblas-openmp REQUIRED)

if(DC_ONEDNN)
    find_path(DC_ONEDNN_INCLUDE dnnl.h)
    find_library(DC_ONEDNN_LIB dnnl)
    if(DC_ONEDNN_INCLUDE AND DC_ONEDNN_LIB)
        set(CMAKE_REQUIRED_INCLUDES ${DC_ONEDNN_INCLUDE})
        set(CMAKE_REQUIRED_LIBRARIES ${DC_ONEDNN_LIB})
        check_c_source_compiles("#include <dnnl.h>
            int main(void) { return dnnl_sgemm('N', 'N', 0, 0, 0, 1, 0, 1, 0, 1, 0, 0, 1); }" DC_ONEDNN_WORKS)
        unset(CMAKE_REQUIRED_INCLUDES)
        unset(CMAKE_REQUIRED_LIBRARIES)
    endif()
    if(NOT DC_ONEDNN_WORKS)
        message(STATUS "no oneDNN: matrix products go to OpenBLAS")
        unset(DC_ONEDNN_LIB CACHE)
    endif()
endif()
