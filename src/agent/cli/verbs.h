/* agent/cli/verbs.h: the client verbs, for the table in agent/main.c. Each returns the exit status. */
#pragma once

int verb_run(int argc, char **argv);
int verb_send(int argc, char **argv);
int verb_ls(int argc, char **argv);
int verb_logs(int argc, char **argv);
int verb_cancel(int argc, char **argv);
int verb_archive(int argc, char **argv);
int verb_unarchive(int argc, char **argv);
int verb_delete(int argc, char **argv);
int verb_artifacts(int argc, char **argv);
int verb_why(int argc, char **argv);
int verb_usage(int argc, char **argv);
int verb_completion(int argc, char **argv);
int verb_fleet(int argc, char **argv);
int verb_skills(int argc, char **argv);
int verb_automations(int argc, char **argv);
int verb_mcp(int argc, char **argv);
int verb_hooks(int argc, char **argv);
