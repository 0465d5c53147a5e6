#include "base/subagent_name.h"
#include "base/text.h"
#include <ctype.h>
#include <strings.h>

#define NAME_LEN_MAX 64

bool subagent_is_reserved(const char *name)
{
	static const char *const names[] = {
	    "generalPurpose", "explore", "shell", "debug", "computerUse", "browser", "plan", "agent", "task", "bash"};

	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if (strcasecmp(names[i], name) == 0)
			return true;
	return false;
}

bool subagent_is_name(const char *name)
{
	return isalnum((unsigned char)name[0]) && text_is_token(name, "_-", NAME_LEN_MAX);
}
