/* `prompt.images`: what is taken is known to be an image of its type and of bounded size; nothing is decoded here. */
#include "base/clock.h"
#include "base/id.h"
#include "base/image.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "net/fetch.h"
#include "server/api/api_priv.h"
#include "server/models/models.h"
#include <string.h>

#define IMAGE_MAX ((size_t)15 * 1024 * 1024)
#define PIXELS_MAX 64000000
#define FETCH_MS 10000 /* for all of a request: a handler thread waits meanwhile */
#define FETCH_REDIRECTS 3

static int from_data(const json_t *image, size_t i, struct strbuf *ret, struct problem *p)
{
	const json_t *data = json_object_get(image, "data");
	size_t len = json_string_length(data), n = 0;
	char *bytes = NULL;

	if (len / 4 * 3 > IMAGE_MAX + 3)
		return problem_set(p, API_validation_error, "'prompt.images[%zu]' is larger than 15 MiB", i);
	if (base64_decode(json_string_value(data), len, &bytes, &n) != OK)
		return problem_set(p, API_validation_error,
		    "'prompt.images[%zu].data' must be standard base64, without a data: prefix or line breaks", i);
	*ret = (struct strbuf){.data = bytes, .len = n, .cap = n + 1, .max = n};
	return OK;
}

static int from_url(
    const char *url, size_t i, bool allow_private, int64_t deadline, struct strbuf *ret, struct problem *p)
{
	const struct fetch_request req = {.url = url,
	    .max_bytes = IMAGE_MAX,
	    .timeout_ms = MAX(deadline - clock_mono_ms(), 1),
	    .max_redirects = FETCH_REDIRECTS,
	    .allow_private = allow_private};
	struct why why = {0};

	if (fetch_url(&req, ret, &why) != OK)
		return problem_set(p, API_validation_error, "'prompt.images[%zu].url': %s", i, why.text);
	return OK;
}

static int read_image(
    const json_t *image, size_t i, bool allow_private, int64_t deadline, json_t *list, struct problem *p)
{
	const char *data = json_string_value(json_object_get(image, "data"));
	const char *url = json_string_value(json_object_get(image, "url"));
	const char *given = json_string_value(json_object_get(image, "mimeType")), *type;
	struct strbuf bytes = {0};
	int rc;

	if ((data == NULL) == (url == NULL))
		return problem_set(p, API_validation_error, "'prompt.images[%zu]' needs either 'data' or 'url'", i);
	if (data != NULL && given == NULL)
		return problem_set(p, API_validation_error, "'prompt.images[%zu].mimeType' is required with 'data'", i);
	rc = data != NULL ? from_data(image, i, &bytes, p) : from_url(url, i, allow_private, deadline, &bytes, p);
	type = image_type((const unsigned char *)strbuf_str(&bytes), bytes.len);
	if (rc == OK && bytes.len > IMAGE_MAX)
		rc = problem_set(p, API_validation_error, "'prompt.images[%zu]' is larger than 15 MiB", i);
	else if (rc == OK && type == NULL)
		rc = problem_set(
		    p, API_validation_error, "'prompt.images[%zu]' must be a PNG, JPEG, GIF or WebP image", i);
	else if (rc == OK && given != NULL && strcmp(given, type) != 0)
		rc = problem_set(p, API_validation_error, "'prompt.images[%zu].mimeType' is %.60s, but the image is %s",
		    i, given, type);
	else if (rc == OK && image_pixels(type, (const unsigned char *)bytes.data, bytes.len) > PIXELS_MAX)
		rc = problem_set(p, API_validation_error, "'prompt.images[%zu]' has more than 64 megapixels", i);
	if (rc == OK) {
		AUTO_STR text = base64_encode(strbuf_str(&bytes), bytes.len);

		json_array_append_new(list, json_pack("{s:s, s:s}", "mimeType", type, "data", text));
	}
	strbuf_fini(&bytes);
	return rc;
}

static int read_list(const json_t *images, bool allow_private, json_t **ret, struct problem *p)
{
	AUTO_JSON list = json_array();
	int64_t deadline = clock_mono_ms() + FETCH_MS;
	size_t i;
	json_t *image;

	json_array_foreach((json_t *)images, i, image)
	{
		int rc = read_image(image, i, allow_private, deadline, list, p);

		if (rc != OK)
			return rc;
	}
	if (json_array_size(list) > 0)
		*ret = TAKE(list);
	return OK;
}

static bool any_url(const json_t *images)
{
	size_t i;
	json_t *image;

	json_array_foreach((json_t *)images, i, image)
	{
		if (json_object_get(image, "url") != NULL)
			return true;
	}
	return false;
}

int read_images(struct api_request *rq, const char *endpoint, const json_t *images, json_t **ret, struct problem *p)
{
	struct api *a = rq->api;
	int rc;

	if (!any_url(images))
		return read_list(images, a->cfg.allow_private_urls, ret, p);
	/* A repetition gets its answer even if the image is gone by now. */
	rc = idempotency_look(rq, endpoint);
	if (rc != OK)
		return rc;
	if (atomic_fetch_add(&a->fetching, 1) < a->cfg.max_fetching)
		rc = read_list(images, a->cfg.allow_private_urls, ret, p);
	else
		rc = problem_set(p, API_service_unavailable,
		    "'prompt.images': the server fetches as many images by 'url' as it may: try again later, or send "
		    "'data'");
	atomic_fetch_sub(&a->fetching, 1);
	return rc;
}

int check_images(const json_t *images, const char *model, struct problem *p)
{
	AUTO_JSON chosen = NULL;
	const struct model *m;

	if (json_array_size(images) == 0)
		return OK;
	if (json_parse(model, strlen(model), &chosen, NULL) != OK || !json_is_object(chosen))
		return ERR_INTERNAL;
	m = model_find(json_string_value(json_object_get(chosen, "id")));
	if (m != NULL && !m->takes_images)
		return problem_set(p, API_validation_error,
		    "'prompt.images': model '%s' takes no images; choose another one (GET /v1/models)", m->id);
	return OK;
}
