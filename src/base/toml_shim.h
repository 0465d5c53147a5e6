/* base/toml_shim.h: what toml.c and the one C++ file agree on; for nobody else. */
#pragma once
#include <stddef.h>
#ifdef __cplusplus
extern "C" {
#endif
/* JSON text from malloc, or NULL with a reason. */
char *bullpen_toml_to_json(const char *text, size_t len, const char *file_name, char *reason, size_t reason_len);
/* The key of the first value at the root that is a date or time, or an array with one; from malloc, NULL: none. */
char *bullpen_toml_date_key(const char *text, size_t len);
#ifdef __cplusplus
}
#endif
