/* runs/result_images.h: images in results of calls, for models that see. For this folder only. Thread: the loop's.
 *
 * A worker, or a tool of the control plane, says which of the images in a result are for the model: `seenImages`, a
 * list of positions in its `content`, or in its `images` where `content` is no list; an item is {"image": {"mimeType",
 * "data"}}. The list is kept with what a conversation keeps of the result (`detail.images`), the images nowhere but in
 * the result. */
#pragma once
#include "base/json.h"

#define RESULT_IMAGES_MAX 20 /* of one result, and of all results that a model is shown */
#define RESULT_IMAGES_BYTES ((size_t)16 * 1024 * 1024) /* of base64, of all of them */

/* Takes `seenImages` out of the result. Those of them that are images, of a kind that models take and of at most 5 MiB,
 * as a new list; NULL: none. */
json_t *result_images_take(json_t *result);
/* Puts the images into the message of the result, as many as the caps leave. */
void result_images_show(json_t *message, const json_t *result, const json_t *detail);
/* Of a whole conversation: takes the oldest ones away that are too many. */
void result_images_bound(json_t *conversation);
