#pragma once
// Opens the library and calls its cuInit, once a process. Returns NULL and cuInit's result, or why
// the library could not be opened.
const char *spin_driver_load(const char *library, int *initialised);
