/* base/image.h: kinds of images. Thread: any. */
#pragma once
#include <stddef.h>

/* "image/png", "image/jpeg", "image/gif" or "image/webp", by the first bytes (12 are enough); NULL: none of them. */
const char *image_type(const unsigned char *b, size_t len);
