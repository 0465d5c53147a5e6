/* openapi [json]: writes the description of the API, made from the routes that are linked in, as docs/openapi.yaml has
 * it (or as JSON, for tests) to stdout. */
#include "base/mem.h"
#include "server/api/routes.h"
#include <string.h>

int main(int argc, char **argv)
{
	AUTO_JSON doc = openapi_document();
	AUTO_STR text = argc > 1 && strcmp(argv[1], "json") == 0 ? json_text(doc) : openapi_text();

	return fputs(text, stdout) < 0 || fflush(stdout) != 0;
}
