/* How large an image says it is, from the header of each format; nothing is decoded. A few bytes can stand for more
 * pixels than any memory holds, and whoever decodes them believes the header. */
#include "server/api/api_priv.h"
#include <string.h>

static uint64_t big16(const unsigned char *p)
{
	return (uint64_t)p[0] << 8 | p[1];
}

static uint64_t big32(const unsigned char *p)
{
	return big16(p) << 16 | big16(p + 2);
}

static uint64_t little16(const unsigned char *p)
{
	return (uint64_t)p[1] << 8 | p[0];
}

static uint64_t little24(const unsigned char *p)
{
	return (uint64_t)p[2] << 16 | little16(p);
}

static uint64_t png_pixels(const unsigned char *b, size_t len)
{
	return len >= 24 && memcmp(b + 12, "IHDR", 4) == 0 ? big32(b + 16) * big32(b + 20) : 0;
}

static uint64_t gif_pixels(const unsigned char *b, size_t len)
{
	return len >= 10 ? little16(b + 6) * little16(b + 8) : 0;
}

static bool is_frame_header(unsigned char marker)
{
	return marker >= 0xc0 && marker <= 0xcf && marker != 0xc4 && marker != 0xc8 && marker != 0xcc;
}

/* Segments (ff, marker, length, data) up to the one that describes the frame. */
static uint64_t jpeg_pixels(const unsigned char *b, size_t len)
{
	size_t at = 2;

	while (len - at >= 9) {
		unsigned char marker = b[at + 1];

		if (b[at] != 0xff || marker == 0xd9 || marker == 0xda)
			return 0;
		if (marker == 0xff) {
			at++;
			continue;
		}
		if (is_frame_header(marker))
			return big16(b + at + 5) * big16(b + at + 7);
		if (marker == 0x01 || (marker >= 0xd0 && marker <= 0xd8)) {
			at += 2;
			continue;
		}
		at += 2 + (size_t)big16(b + at + 2);
		if (at > len)
			return 0;
	}
	return 0;
}

static uint64_t webp_pixels(const unsigned char *b, size_t len)
{
	if (len < 30)
		return 0;
	if (memcmp(b + 12, "VP8X", 4) == 0)
		return (little24(b + 24) + 1) * (little24(b + 27) + 1);
	if (memcmp(b + 12, "VP8L", 4) == 0) {
		uint64_t bits = little16(b + 21) | little16(b + 23) << 16;

		return ((bits & 0x3fff) + 1) * ((bits >> 14 & 0x3fff) + 1);
	}
	if (memcmp(b + 12, "VP8 ", 4) == 0)
		return (little16(b + 26) & 0x3fff) * (little16(b + 28) & 0x3fff);
	return 0;
}

uint64_t image_pixels(const char *type, const unsigned char *b, size_t len)
{
	if (strcmp(type, "image/png") == 0)
		return png_pixels(b, len);
	if (strcmp(type, "image/jpeg") == 0)
		return jpeg_pixels(b, len);
	return strcmp(type, "image/gif") == 0 ? gif_pixels(b, len) : webp_pixels(b, len);
}
