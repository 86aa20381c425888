# What `cmake --install` adds to the program and its completion (cli/): recipes with their data, and documentation.
if(TARGET decant)
    # build/PRESET/decant, wherever the target is defined; an installed one finds libraries outside the system's folders too.
    set_target_properties(decant PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR} INSTALL_RPATH_USE_LINK_PATH ON)
endif()
install(DIRECTORY configs/ DESTINATION ${CMAKE_INSTALL_DATADIR}/decant/configs OPTIONAL PATTERN __pycache__ EXCLUDE)
install(FILES README.md LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})
install(DIRECTORY docs/ DESTINATION ${CMAKE_INSTALL_DOCDIR})
