#include "server/runs/result_images.h"
#include "base/id.h"
#include "base/image.h"
#include "base/mem.h"
#include <string.h>

#define IMAGE_MAX ((size_t)5 * 1024 * 1024)
#define HEAD_BASE64 16 /* characters, for the first 12 bytes */

static const char *data_at(const json_t *result, size_t at)
{
	const json_t *content = json_object_get(result, "content");
	const json_t *list = json_is_array(content) ? content : json_object_get(result, "images");

	return json_string_value(json_object_get(json_object_get(json_array_get(list, at), "image"), "data"));
}

/* By its bytes: servers name kinds wrongly, and a model's server refuses the whole conversation then. */
static const char *kind_of(const char *data)
{
	char *bytes = NULL;
	const char *kind = NULL;
	size_t len = 0;

	if (strlen(data) >= HEAD_BASE64 && base64_decode(data, HEAD_BASE64, &bytes, &len) == OK)
		kind = image_type((const unsigned char *)bytes, len);
	free(bytes);
	return kind;
}

static bool is_shown(const char *data)
{
	char *bytes = NULL;
	size_t len = 0;
	bool yes = data != NULL && strlen(data) / 4 * 3 <= IMAGE_MAX + 3 && kind_of(data) != NULL &&
		   base64_decode(data, strlen(data), &bytes, &len) == OK && len <= IMAGE_MAX;

	free(bytes);
	return yes;
}

json_t *result_images_take(json_t *result)
{
	AUTO_JSON seen = json_incref(json_object_get(result, "seenImages"));
	AUTO_JSON good = json_array();
	json_t *at;
	size_t i;

	json_object_del(result, "seenImages");
	json_array_foreach(seen, i, at)
	{
		json_int_t n = json_is_integer(at) ? json_integer_value(at) : -1;

		if (i < RESULT_IMAGES_MAX && n >= 0 && is_shown(data_at(result, (size_t)n)))
			json_array_append(good, at);
	}
	return json_array_size(good) > 0 ? TAKE(good) : NULL;
}

void result_images_show(json_t *message, const json_t *result, const json_t *detail)
{
	AUTO_JSON images = json_array();
	json_t *at;
	size_t i;

	json_array_foreach(json_object_get(detail, "images"), i, at)
	{
		const char *data = data_at(result, (size_t)json_integer_value(at));
		const char *kind = data != NULL ? kind_of(data) : NULL;

		if (kind != NULL)
			json_array_append_new(images, json_pack("{s:s, s:s}", "mimeType", kind, "data", data));
	}
	if (json_array_size(images) > 0)
		json_object_set(message, "images", images);
}

static size_t bytes_of(const json_t *images)
{
	size_t i, sum = 0;
	json_t *image;

	json_array_foreach((json_t *)images, i, image) sum += json_string_length(json_object_get(image, "data"));
	return sum;
}

void result_images_bound(json_t *conversation)
{
	size_t n = 0, bytes = 0;

	for (size_t i = json_array_size(conversation); i > 0; i--) {
		json_t *m = json_array_get(conversation, i - 1);
		const json_t *images = json_object_get(m, "images");
		const char *role = json_string_value(json_object_get(m, "role"));
		AUTO_STR noted = NULL;

		if (images == NULL || role == NULL || strcmp(role, "tool") != 0)
			continue;
		n += json_array_size(images);
		bytes += bytes_of(images);
		if (n <= RESULT_IMAGES_MAX && bytes <= RESULT_IMAGES_BYTES)
			continue;
		noted = str_printf("%s\n[its images are left out: there are newer ones]",
		    json_string_value(json_object_get(m, "text")));
		json_object_del(m, "images");
		json_put(m, "text", noted);
	}
}
