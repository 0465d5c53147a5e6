/* api/answers.h: the forms of answers, for the OpenAPI document. Thread: any, constant. */
#pragma once
#include "base/json.h"

/* Adds them to the components' schemas. */
void answers_describe(json_t *schemas);
bool answer_is_known(const char *name);
