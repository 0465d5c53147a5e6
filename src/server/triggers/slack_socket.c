#include "server/triggers/slack_priv.h"
int slack_socket_start(struct triggers *t, struct slack_socket **ret, struct why *why) { return OK; }
void slack_socket_free(struct slack_socket **s) {}
