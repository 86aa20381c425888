# Helpers for the folders' CMakeLists: one static library a folder, one program a test.

# dc_folder(NAME SOURCES ... USES ... LIBS ...): the library dc_NAME. USES names folders it may include; LIBS outside ones.
function(dc_folder name)
    cmake_parse_arguments(F "" "" "SOURCES;USES;LIBS" ${ARGN})
    add_library(dc_${name} STATIC ${F_SOURCES})
    target_include_directories(dc_${name} PUBLIC ${PROJECT_SOURCE_DIR})
    target_compile_features(dc_${name} PUBLIC c_std_11)
    target_link_libraries(dc_${name} PRIVATE dc_options)
    foreach(folder ${F_USES})
        target_link_libraries(dc_${name} PUBLIC dc_${folder})
    endforeach()
    target_link_libraries(dc_${name} PUBLIC ${F_LIBS})
endfunction()

# dc_test(NAME LABEL label SOURCES ... USES ... LIBS ... ARGS ...): a cmocka program run by ctest in the source root.
function(dc_test name)
    cmake_parse_arguments(T "" "LABEL;TIMEOUT" "SOURCES;USES;LIBS;ARGS" ${ARGN})
    if(NOT T_SOURCES)
        set(T_SOURCES ${name}.c)
    endif()
    if(NOT T_LABEL)
        set(T_LABEL unit)
    endif()
    if(NOT T_TIMEOUT)
        set(T_TIMEOUT 120)
    endif()
    add_executable(${name} ${T_SOURCES})
    target_link_libraries(${name} PRIVATE dc_options)
    foreach(folder ${T_USES})
        target_link_libraries(${name} PRIVATE dc_${folder})
    endforeach()
    target_link_libraries(${name} PRIVATE PkgConfig::CMOCKA ${T_LIBS} m)
    add_test(NAME ${name} COMMAND ${name} ${T_ARGS} WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
    set_tests_properties(${name} PROPERTIES LABELS ${T_LABEL} TIMEOUT ${T_TIMEOUT} SKIP_RETURN_CODE 77)
endfunction()

# dc_use_device(PROGRAM LIBRARY): which CUDA device a program gets: dc_cuda (a card), dc_cuda_emu (tests/emu) or, as every program that does
# not say, dc_cuda_none. LIBRARY_ranks is how tensors of such a device reach those of other ranks (train/CMakeLists.txt).
function(dc_use_device program library)
    set_property(TARGET ${program} PROPERTY DC_DEVICE ${library})
endfunction()
# The library, for what a program's folders link to.
set(DC_PROGRAM_DEVICE $<IF:$<BOOL:$<TARGET_PROPERTY:DC_DEVICE>>,$<TARGET_PROPERTY:DC_DEVICE>,dc_cuda_none>)

# dc_cu_emulated(NAME SOURCES ... USES ... LIBS ...): a static library of .cu files compiled as C++17 against tests/emu, where kernels run on
# the CPU. Paths are relative to the source root.
function(dc_cu_emulated name)
    cmake_parse_arguments(E "" "" "SOURCES;USES;LIBS" ${ARGN})
    list(TRANSFORM E_SOURCES PREPEND ${PROJECT_SOURCE_DIR}/)
    set_source_files_properties(${E_SOURCES} PROPERTIES LANGUAGE CXX)
    add_library(${name} STATIC ${E_SOURCES})
    target_link_libraries(${name} PUBLIC dc_emu PRIVATE dc_emu_options)
    foreach(folder ${E_USES})
        target_link_libraries(${name} PUBLIC dc_${folder})
    endforeach()
    target_link_libraries(${name} PUBLIC ${E_LIBS})
endfunction()
