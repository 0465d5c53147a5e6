/* agent completion: a script for the shell. It asks the program itself for verbs, options and agents, so it never knows
 * less than the program does. */
#include "agent/cli/client.h"
#include "agent/cli/verbs.h"
#include <stdio.h>
#include <string.h>

/* The lists, one word a line: what `agent help` and `agent VERB --help` print, and the newest agents. */
#define LISTS                                                                                                          \
	"_agent_verbs() { agent help 2>/dev/null | sed -n '/^Verbs/,$s/^  \\([a-z]*\\) .*/\\1/p'; }\n"                 \
	"_agent_options() { agent $1 --help 2>/dev/null | grep -oE '^ +(-[a-zA-Z], )?--[a-z][a-z-]*' | "               \
	"grep -oE -e '--[a-z-]+'; }\n"                                                                                 \
	"_agent_ids() { agent ls --archived -n 50 2>/dev/null | grep -oE '^bc-[0-9a-f-]+'; }\n"
#define TAKES_AGENT "send|logs|cancel|archive|unarchive|delete|why|usage|artifacts"

static const char bash[] =
    "# bash: eval \"$(agent completion bash)\"\n" LISTS "_agent() {\n"
    "  local current=${COMP_WORDS[COMP_CWORD]} verb= i\n"
    "  for ((i = 1; i < COMP_CWORD; i++)); do\n"
    "    [[ ${COMP_WORDS[i]} == -* ]] || { verb=${COMP_WORDS[i]}; break; }\n"
    "  done\n"
    "  if [[ $current == -* ]]; then\n"
    "    COMPREPLY=($(compgen -W \"$(_agent_options \"$verb\")\" -- \"$current\"))\n"
    "  elif [[ -z $verb ]]; then\n"
    "    COMPREPLY=($(compgen -W \"$(_agent_verbs)\" -- \"$current\"))\n"
    "  else\n"
    "    case $verb in\n"
    "      " TAKES_AGENT ") COMPREPLY=($(compgen -W \"$(_agent_ids)\" -- \"$current\")) ;;\n"
    "      worker) COMPREPLY=($(compgen -W 'start debug controller' -- \"$current\")) ;;\n"
    "      fleet) COMPREPLY=($(compgen -W 'summary workers pools queue why drain' -- \"$current\")) ;;\n"
    "      automations) COMPREPLY=($(compgen -W 'ls run log' -- \"$current\")) ;;\n"
    "      mcp) COMPREPLY=($(compgen -W 'ls add rm login logout test' -- \"$current\")) ;;\n"
    "      skills) COMPREPLY=($(compgen -W 'ls check' -- \"$current\")) ;;\n"
    "      completion) COMPREPLY=($(compgen -W 'bash zsh fish' -- \"$current\")) ;;\n"
    "    esac\n"
    "  fi\n"
    "}\n"
    "complete -o default -F _agent agent\n";

static const char zsh[] = "#compdef agent\n"
			  "# zsh: eval \"$(agent completion zsh)\"\n" LISTS "_agent() {\n"
			  "  local current=${words[CURRENT]} verb= i\n"
			  "  for ((i = 2; i < CURRENT; i++)); do\n"
			  "    [[ ${words[i]} == -* ]] || { verb=${words[i]}; break }\n"
			  "  done\n"
			  "  if [[ $current == -* ]]; then\n"
			  "    compadd -- ${(f)\"$(_agent_options $verb)\"}\n"
			  "  elif [[ -z $verb ]]; then\n"
			  "    compadd -- ${(f)\"$(_agent_verbs)\"}\n"
			  "  else\n"
			  "    case $verb in\n"
			  "      (" TAKES_AGENT ") compadd -- ${(f)\"$(_agent_ids)\"} ;;\n"
			  "      (worker) compadd -- start debug controller ;;\n"
			  "      (fleet) compadd -- summary workers pools queue why drain ;;\n"
			  "      (automations) compadd -- ls run log ;;\n"
			  "      (mcp) compadd -- ls add rm login logout test ;;\n"
			  "      (skills) compadd -- ls check ;;\n"
			  "      (completion) compadd -- bash zsh fish ;;\n"
			  "      (*) _files ;;\n"
			  "    esac\n"
			  "  fi\n"
			  "}\n"
			  "compdef _agent agent\n";

static const char fish[] =
    "# fish: agent completion fish | source\n"
    "function __agent_verb\n"
    "  for word in (commandline -opc)[2..]\n"
    "    string match -q -- '-*' $word; or begin; echo $word; return; end\n"
    "  end\n"
    "end\n"
    "function __agent_verbs; agent help 2>/dev/null | sed -n '/^Verbs/,$s/^  \\([a-z]*\\) .*/\\1/p'; end\n"
    "function __agent_options\n"
    "  agent (__agent_verb) --help 2>/dev/null | grep -oE '^ +(-[a-zA-Z], )?--[a-z][a-z-]*' | grep -oE -e '--[a-z-]+'\n"
    "end\n"
    "function __agent_ids; agent ls --archived -n 50 2>/dev/null | grep -oE '^bc-[0-9a-f-]+'; end\n"
    "complete -c agent -f -n 'test -z (__agent_verb)\"\"' -a '(__agent_verbs)'\n"
    "complete -c agent -n 'string match -q -- \"-*\" (commandline -ct)' -a '(__agent_options)'\n"
    "complete -c agent -f -n 'string match -qr -- \"^(" TAKES_AGENT ")\\$\" (__agent_verb)\"\"' -a '(__agent_ids)'\n"
    "complete -c agent -f -n 'test (__agent_verb)\"\" = worker' -a 'start debug controller'\n"
    "complete -c agent -f -n 'test (__agent_verb)\"\" = fleet' -a 'summary workers pools queue why drain'\n"
    "complete -c agent -f -n 'test (__agent_verb)\"\" = automations' -a 'ls run log'\n"
    "complete -c agent -f -n 'test (__agent_verb)\"\" = mcp' -a 'ls add rm login logout test'\n"
    "complete -c agent -f -n 'test (__agent_verb)\"\" = skills' -a 'ls check'\n"
    "complete -c agent -f -n 'test (__agent_verb)\"\" = completion' -a 'bash zsh fish'\n";

static const struct {
	const char *shell, *script;
} scripts[] = {{"bash", bash}, {"zsh", zsh}, {"fish", fish}};

static const char *script_for(const char *shell)
{
	for (size_t i = 0; i < ARRAY_LEN(scripts); i++)
		if (strcmp(scripts[i].shell, shell) == 0)
			return scripts[i].script;
	return NULL;
}

int verb_completion(int argc, char **argv)
{
	const struct options verb = {.usage = "agent completion bash|zsh|fish",
	    .about = "Prints a script that completes verbs, options and agents. In the shell's start file:\n"
		     "  bash, zsh: eval \"$(agent completion bash)\"\n  fish: agent completion fish | source",
	    .footer = "Exit status: 0 done, 2 usage."};
	struct option_words words;
	struct why why = {0};
	int rc = options_parse(&verb, argc, argv, 1, &words, &why);
	const char *script = rc == OK && words.n == 1 ? script_for(words.v[0]) : NULL;

	if (rc == ERR_EMPTY) {
		options_help(&verb, stdout);
		return EXIT_DONE;
	}
	if (rc != OK)
		client_error("%s", why.text);
	else if (script == NULL)
		client_error("name a shell: agent completion bash, zsh or fish");
	else
		fputs(script, stdout);
	return script != NULL ? EXIT_DONE : EXIT_USAGE;
}
