/* Prompts as playbook reads them. */
#include "base/mem.h"
#include "server/models/playbook.h"
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	AUTO_STR prompt = str_ndup((const char *)data, size);
	struct playbook p = {0};

	if (playbook_parse(prompt, &p) != OK)
		return 0;
	for (size_t i = 0; i < p.n; i++)
		ENSURE((p.steps[i].arguments == NULL) == (p.steps[i].problem != NULL));
	playbook_fini(&p);
	return 0;
}
