# Writes HEADER with the id of the sources in SOURCE (git describe; VERSION where there is no git), only when it
# changed. Run at every build: cmake -DSOURCE=... -DVERSION=... -DHEADER=... -P git_id.cmake
execute_process(COMMAND git describe --always --dirty WORKING_DIRECTORY ${SOURCE}
    OUTPUT_VARIABLE id OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
if(NOT id)
    set(id "${VERSION}")
endif()
set(text "#define KD_GIT_ID \"${id}\"\n")
if(EXISTS ${HEADER})
    file(READ ${HEADER} old)
endif()
if(NOT text STREQUAL "${old}")
    file(WRITE ${HEADER} "${text}")
endif()
