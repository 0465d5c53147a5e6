/* api/input.h: path, query and body of a request as its route describes them; for router.c.
 * Handler threads. Each function gives false after it has answered what is wrong. */
#pragma once
#include "server/api/routes.h"

bool input_read_params(struct api_request *rq, const struct route_match *m);
bool input_read_query(struct api_request *rq, const struct known_route *k);
/* Also says whether the content type is one the route takes. The bytes of BODY_UPLOAD stay where they are. */
bool input_read_body(struct api_request *rq, const struct known_route *k);
