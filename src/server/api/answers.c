/* The forms of answers, by the names that routes give (route_response.form): components of the OpenAPI document. Tests
 * hold every answer that they get against them, so a member that is not here fails there. In the texts ' stands for ".
 */
#include "base/mem.h"
#include "server/api/answers.h"
#include <string.h>

#define TEXT "{'type':'string'}"
#define FLAG "{'type':'boolean'}"
#define COUNT "{'type':'integer','minimum':0}"
#define NUMBER "{'type':'number','minimum':0}"
#define ROLE "{'enum':['member','auditor','admin','owner']}"
#define TIME "{'type':'string','pattern':'^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}[.][0-9]{3}Z$'}"
#define AGENT_ID "{'type':'string','pattern':'^bc-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'}"
#define RUN_ID "{'type':'string','pattern':'^run-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'}"
#define TEXTS "{'type':'object','additionalProperties':" TEXT "}"
#define REF(name) "{'$ref':'#/components/schemas/" name "'}"
#define LIST(of) "{'type':'array','items':" of "}"
/* Members that are always there, and those that may be. */
#define OBJECT(required, members)                                                                                      \
	"{'type':'object','additionalProperties':false,'required':[" required "],'properties':{" members "}}"

static const struct {
	const char *name, *schema;
} forms[] = {
    {"Id", OBJECT("'id'", "'id':" TEXT)},
    {"AccountLink", OBJECT("'surface','login'", "'surface':" TEXT ",'login':" TEXT)},
    {"Received", "{'type':'object'}"},
    {"Repo", OBJECT("'url'", "'url':" TEXT ",'startingRef':" TEXT ",'prUrl':" TEXT)},
    {"KeptWork", OBJECT("'workerId','ref','commit'", "'workerId':" TEXT ",'workerName':" TEXT ",'host':" TEXT
						     ",'ref':" TEXT ",'commit':" TEXT ",'reason':" TEXT ",'at':" TIME)},
    {"Nearest", OBJECT("'blockedBy'", "'workerId':" TEXT ",'name':" TEXT ",'pool':" TEXT ",'blockedBy':" LIST(TEXT))},
    {"Wait", OBJECT("'code','text'", "'code':" TEXT ",'text':" TEXT ",'since':" TIME
				     ",'position':{'type':'integer','minimum':1},'nearest':" LIST(REF("Nearest")))},
    {"AgentOwner",
	OBJECT("'type','id','name'", "'type':{'enum':['user','service_account']},'id':" TEXT ",'name':" TEXT)},
    {"Agent",
	OBJECT("'id','name','status','env','repos','openAsCursorGithubApp','url','createdAt','updatedAt','latestRunId'",
	    "'id':" AGENT_ID ",'owner':" REF(
		"AgentOwner") ",'name':{'type':'string','minLength':1,'maxLength':100},'status':{'enum':['ACTIVE','"
			      "IDLE',"
			      "'ARCHIVED']},'env':" OBJECT("'type'",
				  "'type':{'enum':['cloud','pool','machine']},'name'"
				  ":" TEXT) ",'repos':" LIST(REF("Repo")) ",'"
									  "workOnCurrent"
									  "Branch':" FLAG ",'"
									  "autoCreatePR'"
									  ":" FLAG ",'"
									  "skipReviewerR"
									  "equest':" FLAG ",'"
									  "openAsCursorG"
									  "ithubApp'"
									  ":" FLAG ",'metadata':{"
									  "'type':'"
									  "object','"
									  "additionalPro"
									  "perties'"
									  ":" TEXT "},'"
									  "visibility':{"
									  "'enum':['"
									  "private','"
									  "team']},'"
									  "isOwn':" FLAG ",'mayFollowUp':" FLAG
									  ",'keptWork'"
									  ":" REF("KeptW"
										  "ork") ",'"
											 "ur"
											 "l'"
											 ":" TEXT ",'"
											 "cr"
											 "ea"
											 "te"
											 "dA"
											 "t'"
											 ":" TIME ",'"
											 "up"
											 "da"
											 "te"
											 "dA"
											 "t'"
											 ":" TIME ",'"
											 "la"
											 "te"
											 "st"
											 "Ru"
											 "nI"
											 "d'"
											 ":" RUN_ID ",'"
											 "wa"
											 "it"
											 "'"
											 ":" REF("Wait"))},
    {"Branches", OBJECT("'branches'",
		     "'branches':" LIST(OBJECT("'repoUrl'", "'repoUrl':" TEXT ",'branch':" TEXT ",'prUrl':" TEXT)))},
    {"RunError", OBJECT("'message','code'", "'message':" TEXT ",'code':" TEXT)},
    {"PathAndReason", OBJECT("'path','reason'", "'path':" TEXT ",'reason':" TEXT)},
    {"Attempt", OBJECT("'workerId','code','message','at'", "'workerId':" TEXT ",'workerName':" TEXT ",'host':" TEXT
							   ",'code':" TEXT ",'message':" TEXT ",'at':" TIME)},
    {"Run",
	OBJECT("'id','agentId','status','createdAt','updatedAt','requestId'",
	    "'id':" RUN_ID ",'agentId':" AGENT_ID
	    ",'status':{'enum':['CREATING','RUNNING','FINISHED','ERROR','CANCELLED','EXPIRED']},'createdAt':" TIME
	    ",'updatedAt':" TIME ",'requestId':" TEXT ",'durationMs':" COUNT ",'result':" TEXT
	    ",'git':" REF("Branches") ",'error':" REF("RunError") ",'wait':" REF("Wait") ",'worker':" OBJECT("'id'",
		"'id':" TEXT ",'name':" TEXT
		",'host':" TEXT) ",'attempts':" LIST(REF("Attempt")) ",'resources':" OBJECT("",
		"'cpuMs':" COUNT ",'peakMemoryBytes':" COUNT
		",'writtenBytes':" COUNT) ",'notPublished':" LIST(REF("PathAndReason")) ",'warnings':" LIST(TEXT) ",'"
														  "notU"
														  "ploa"
														  "ded'"
														  ":" LIST(REF("PathAndReason")) ",'keptWork':" REF(
														      "KeptWork"))},
    {"Sharing", OBJECT("'visibility'", "'visibility':{'enum':['private','team']}")},
    {"AgentAndRun", OBJECT("'agent','run'", "'agent':" REF("Agent") ",'run':" REF("Run"))},
    {"NewRun", OBJECT("'run'", "'run':" REF("Run"))},
    {"Agents", OBJECT("'items'", "'items':" LIST(REF("Agent")) ",'nextCursor':" TEXT)},
    {"Runs", OBJECT("'items'", "'items':" LIST(REF("Run")) ",'nextCursor':" TEXT)},
    {"Tokens", OBJECT("'inputTokens','outputTokens','cacheWriteTokens','cacheReadTokens','totalTokens'",
		   "'inputTokens':" COUNT ",'outputTokens':" COUNT ",'cacheWriteTokens':" COUNT
		   ",'cacheReadTokens':" COUNT ",'totalTokens':" COUNT)},
    {"Usage", OBJECT("'totalUsage','runs'", "'totalUsage':" REF("Tokens") ",'runs':" LIST(OBJECT("'id','usage'",
						"'id':" RUN_ID ",'usageUuid':" TEXT ",'usage':" REF("Tokens"))))},
    {"Me", OBJECT("'apiKeyName','createdAt'", "'apiKeyName':" TEXT ",'createdAt':" TIME ",'userId':" COUNT
					      ",'userEmail':" TEXT ",'userFirstName':" TEXT ",'userLastName':" TEXT)},
    {"Params", LIST(OBJECT("'id','value'", "'id':" TEXT ",'value':" TEXT))},
    {"Models",
	OBJECT("'items'",
	    "'items':" LIST(OBJECT("'id','displayName','variants'",
		"'id':" TEXT ",'displayName':" TEXT ",'description':" TEXT
		",'aliases':" LIST(TEXT) ",'parameters':" LIST(OBJECT("'id','values'",
		    "'id':" TEXT ",'displayName':" TEXT ",'values':" LIST(OBJECT("'value'",
			"'value':" TEXT ",'displayName':" TEXT)))) ",'variants':" LIST(OBJECT("'params','displayName'",
		    "'params':" REF("Params") ",'displayName':" TEXT ",'description':" TEXT ",'isDefault':" FLAG)))))},
    {"Repositories", OBJECT("'items'", "'items':" LIST(OBJECT("'url'", "'url':" TEXT)))},
    {"Health", OBJECT("'status'", "'status':{'const':'ok'},'workers':" COUNT)},
    {"NotReady", OBJECT("'status','reason'", "'status':{'const':'unavailable'},'reason':" TEXT)},
    {"SubToken", OBJECT("'accessToken','expiresAt','userId','teamId'",
		     "'accessToken':" TEXT ",'expiresAt':" TIME ",'userId':" COUNT ",'teamId':" COUNT)},
    {"WorkerToken", OBJECT("'accessToken','expiresAt','keyType'",
			"'accessToken':" TEXT ",'expiresAt':" TIME ",'keyType':{'enum':['user','service_account']}")},
    {"Claim", OBJECT("'id','workerId'", "'id':" AGENT_ID ",'workerId':" TEXT ",'token':" TEXT ",'expiresAt':" TIME)},
    {"SessionToken", OBJECT("'id','workerId','token','expiresAt'",
			 "'id':" AGENT_ID ",'workerId':" TEXT ",'token':" TEXT ",'expiresAt':" TIME)},
    {"Label", OBJECT("'key','value'", "'key':" TEXT ",'value':" TEXT)},
    {"Worker", OBJECT("'workerId','isInUse','workspaceRootPath','connectedAtMs','userId'",
		   "'workerId':" TEXT ",'isInUse':" FLAG ",'repoOwner':" TEXT ",'repoName':" TEXT ",'repoUrl':" TEXT
		   ",'workspaceRootPath':" TEXT ",'connectedAtMs':" COUNT ",'userId':" COUNT ",'teamId':" COUNT
		   ",'serviceAccountId':" TEXT ",'poolName':" TEXT ",'isDraining':" FLAG
		   ",'state':{'enum':['idle','busy','held','unfit','draining']},'version':" TEXT ",'os':" TEXT
		   ",'arch':" TEXT ",'host':" TEXT ",'isolation':" TEXT ",'isPersonal':" FLAG ",'sessions':" COUNT
		   ",'maxSessions':" COUNT ",'lastActivityMs':" COUNT
		   ",'unfit':" REF("RunError") ",'activeBcId':" AGENT_ID ",'name':" TEXT
					       ",'tags':" LIST(REF("Label")) ",'labels':" LIST(REF("Label")))},
    {"Workers", OBJECT("'workers','totalCount'",
		    "'workers':" LIST(REF("Worker")) ",'totalCount':" COUNT ",'nextPageToken':" TEXT)},
    {"OneWorker", OBJECT("'worker'", "'worker':" REF("Worker"))},
    {"Drain", OBJECT("'workerId','draining'", "'workerId':" TEXT ",'draining':{'const':true}")},
    {"Summary", OBJECT("'teamSummary'",
		    "'teamSummary':" OBJECT("'totalConnected','inUse'", "'totalConnected':" COUNT ",'inUse':" COUNT))},
    {"Pools", OBJECT("'pools'",
		  "'pools':" LIST(OBJECT("'scope','ownerId','poolName','connectedWorkerCount','inUseWorkerCount'",
		      "'scope':{'const':'team'},'ownerId':" COUNT ",'poolName':" TEXT ",'repoOwner':" TEXT
		      ",'repoName':" TEXT ",'repoUrl':" TEXT ",'connectedWorkerCount':" COUNT
		      ",'inUseWorkerCount':" COUNT ",'firstSeenAtMs':" COUNT ",'lastSeenAtMs':" COUNT ",'isStale':" FLAG
		      ",'workerReadyTimeoutSeconds':" COUNT)))},
    {"Request", OBJECT("'id','userId','labels','createdAtMs'",
		    "'id':" AGENT_ID ",'userId':" COUNT ",'userEmail':" TEXT ",'serviceAccountId':" TEXT
		    ",'repoOwner':" TEXT ",'repoName':" TEXT ",'repoUrl':" TEXT ",'repoUrls':" LIST(
			TEXT) ",'labels':" LIST(REF("Label")) ",'createdAtMs':" COUNT ",'claimedWorkerId':" TEXT
							      ",'wakeTimeoutMs':" COUNT ",'wait':" REF("Wait"))},
    {"Requests", OBJECT("'requests','streamCursor'",
		     "'requests':" LIST(REF("Request")) ",'nextPageToken':" TEXT ",'streamCursor':" TEXT)},
    {"CursorExpired", OBJECT("'code'", "'code':{'const':'cursor_expired'}")},
    {"Registered", OBJECT("'registered'", "'registered':" FLAG)},
    {"Deregistered", OBJECT("'deregistered'", "'deregistered':" FLAG)},
    {"Artifacts", OBJECT("'items'", "'items':" LIST(OBJECT("'path','sizeBytes','updatedAt'",
					"'path':" TEXT ",'sizeBytes':" COUNT ",'updatedAt':" TIME)))},
    {"PublicArtifacts",
	OBJECT("'items'", "'items':" LIST(OBJECT("'path','createdAt'", "'path':" TEXT ",'createdAt':" TIME)))},
    {"Revoked", OBJECT("'revoked'", "'revoked':" COUNT)},
    {"ArtifactLink", OBJECT("'url','expiresAt'", "'url':" TEXT ",'expiresAt':" TIME)},
    {"Upload", OBJECT("'id','receivedBytes','ready'", "'id':" TEXT ",'receivedBytes':" COUNT ",'ready':" FLAG)},
    {"V0Agent", OBJECT("'id','name','status','source','target','createdAt'",
		    "'id':" AGENT_ID ",'name':" TEXT
		    ",'status':{'enum':['CREATING','RUNNING','FINISHED','ERROR','STOPPED','EXPIRED']}"
		    ",'source':" OBJECT("", "'repository':" TEXT ",'ref':" TEXT) ",'target':" OBJECT(
			"'url','autoCreatePr','openAsCursorGithubApp','skipReviewerRequest'",
			"'url':" TEXT ",'branchName':" TEXT ",'prUrl':" TEXT ",'autoCreatePr':" FLAG
			",'openAsCursorGithubApp':" FLAG ",'skipReviewerRequest':" FLAG) ",'summary':" TEXT
											 ",'createdAt':" TIME)},
    {"V0Agents", OBJECT("'agents'", "'agents':" LIST(REF("V0Agent")) ",'nextCursor':" TEXT)},
    {"V0Conversation", OBJECT("'id','messages'",
			   "'id':" AGENT_ID ",'messages':" LIST(OBJECT("'id','type','text'",
			       "'id':" TEXT ",'type':{'enum':['user_message','assistant_message']},'text':" TEXT)))},
    {"V0Artifacts", OBJECT("'artifacts'", "'artifacts':" LIST(OBJECT("'absolutePath','sizeBytes','updatedAt'",
					      "'absolutePath':" TEXT ",'sizeBytes':" COUNT ",'updatedAt':" TIME)))},
    {"V0Me", OBJECT("'apiKeyName','createdAt'", "'apiKeyName':" TEXT ",'createdAt':" TIME ",'userEmail':" TEXT)},
    {"V0Models", OBJECT("'models'", "'models':" LIST(TEXT))},
    {"SignedIn", OBJECT("'signedIn'", "'signedIn':" FLAG ",'endSessionUrl':" TEXT)},
    {"LoginWays", OBJECT("'key','link'", "'key':{'const':true},'link':{'const':true},'oidc':" OBJECT(
					     "'button','url'", "'button':" TEXT ",'url':" TEXT))},
    {"Users", OBJECT("'items'", "'items':" LIST(OBJECT("'id','name','role','createdAt'",
				    "'id':" COUNT ",'name':" TEXT ",'email':" TEXT ",'role':" ROLE ",'createdAt':" TIME
				    ",'signsInWith':" TEXT)))},
    {"UserRole", OBJECT("'id','role'", "'id':" COUNT ",'role':" ROLE)},
    {"FleetHistory",
	OBJECT("'fromMs','toMs','stepSeconds','points'",
	    "'fromMs':" COUNT ",'toMs':" COUNT ",'stepSeconds':" COUNT ",'pool':" TEXT
	    ",'points':" LIST(OBJECT("'atMs','queued','queuedMax','oldestWaitMs','workers','busy','started'",
		"'atMs':" COUNT ",'queued':" NUMBER ",'queuedMax':" COUNT ",'oldestWaitMs':" COUNT ",'workers':" NUMBER
		",'busy':" NUMBER ",'utilization':{'type':'number','minimum':0,'maximum':1},'started':" COUNT
		",'waitP50Ms':" COUNT ",'waitP95Ms':" COUNT)))},
    {"Session", OBJECT("'signedIn','userId','name','role'",
		    "'signedIn':" FLAG ",'userId':" COUNT ",'name':" TEXT ",'email':" TEXT ",'role':" ROLE)},
    {"Policy", OBJECT("'allow','require','maxActivePerUser','secretSync','publicArtifacts','followUps'",
		   "'allow':" FLAG ",'require':" FLAG ",'maxActivePerUser':" COUNT ",'secretSync':" FLAG
		   ",'publicArtifacts':" FLAG ",'followUps':{'enum':['disabled','service_accounts','all']}"
		   ",'mcpAllow':" LIST("{'type':'object'}"))},
    {"ApiKeys", OBJECT("'items','scopes'",
		    "'items':" LIST(OBJECT("'id','name','type','owner','suffix','scopes','createdAt'",
			"'id':" TEXT ",'name':" TEXT ",'type':{'enum':['user','service_account']},'owner':" TEXT
			",'userId':" COUNT ",'serviceAccountId':" TEXT ",'suffix':" TEXT
			",'scopes':" LIST(TEXT) ",'createdAt':" TIME ",'lastUsedAt':" TIME ",'expiresAt':" TIME
						",'revokedAt':" TIME)) ",'scopes':" LIST(OBJECT("'name','default'",
			"'name':" TEXT ",'default':" FLAG)))},
    {"NewApiKey", OBJECT("'id','key'", "'id':" TEXT ",'key':" TEXT)},
    {"ServiceAccounts", OBJECT("'items'", "'items':" LIST(OBJECT("'id','name','createdAt','keys'",
					      "'id':" TEXT ",'name':" TEXT ",'createdAt':" TIME ",'archivedAt':" TIME
					      ",'keys':" COUNT)))},
    {"AuditLog",
	OBJECT("'items'", "'items':" LIST(OBJECT("'id','seq','timestamp','eventType','actor','data','prevHash','hash'",
			      "'id':" TEXT ",'seq':" COUNT ",'timestamp':" TIME ",'eventType':" TEXT ",'actor':" TEXT
			      ",'actorName':" TEXT ",'ipAddress':" TEXT ",'data':{'type':'object'},'prevHash':" TEXT
			      ",'hash':" TEXT)) ",'nextCursor':" TEXT)},
    {"TeamHooks", OBJECT("'hooks','files','hash'",
		      "'hooks':{'type':'object','additionalProperties':" LIST(
			  "{'type':'object'}") "},'files':" TEXTS ",'hash':{'type':['string','null']},'updatedAt':" TIME
					       ",'updatedBy':" TEXT)},
    {"Automation",
	OBJECT("'id','owner','name','prompt','concurrency','enabled','createdAt','updatedAt'",
	    "'id':" TEXT ",'owner':" TEXT ",'name':" TEXT ",'prompt':" TEXT
	    ",'concurrency':{'enum':['skip','queue']},'enabled':" FLAG
	    ",'repos':" LIST(REF("Repo")) ",'env':" OBJECT("'type'",
		"'type':{'enum':['cloud','pool','machine']},'name':" TEXT) ",'model':{'type':'object'},'"
									   "autoCreatePR':" FLAG
									   ",'mode':{'enum':['agent','plan']}"
									   ",'schedule':" OBJECT(
									       "'cron','timeZone','missed'",
									       "'cron':" TEXT ",'timeZone':" TEXT
									       ",'missed':{'enum':['skip','"
									       "once']}") ",'nextRunAt':" TIME
											  ",'webhook'"
											  ":" OBJECT("'url','"
												     "timestamp'",
											      "'url':" TEXT
											      ",'timestamp'"
											      ":" FLAG ",'secret'"
											      ":" TEXT) ",'"
													"crea"
													"tedA"
													"t'"
													":" TIME ",'"
													"upda"
													"tedA"
													"t'"
													":" TIME)},
    {"Automations", OBJECT("'items'", "'items':" LIST(REF("Automation")) ",'nextCursor':" TEXT)},
    {"AutomationRun",
	OBJECT("'id','cause','state','at','createdAt'",
	    "'id':" TEXT ",'cause':{'enum':['schedule','webhook','manual']},'state':{'enum':['new','queued','started',"
	    "'skipped','missed','failed']},'at':" TIME ",'createdAt':" TIME ",'reason':" TEXT ",'agentId':" AGENT_ID
	    ",'endedAt':" TIME)},
    {"AutomationRuns", OBJECT("'items'", "'items':" LIST(REF("AutomationRun")) ",'nextCursor':" TEXT)},
    {"TeamWebhook", OBJECT("'id','name','url','events','createdAt','createdBy'",
			"'id':" TEXT ",'name':" TEXT ",'url':" TEXT
			",'events':" LIST(TEXT) ",'secret':" TEXT ",'createdAt':" TIME ",'createdBy':" TEXT
						",'waiting':" COUNT ",'failed':" COUNT)},
    {"TeamWebhooks", OBJECT("'items'", "'items':" LIST(REF("TeamWebhook")))},
    {"Delivery", OBJECT("'id','state','attempts','event','agentId','status','createdAt'",
		     "'id':" TEXT ",'state':{'enum':['waiting','delivered','dead']},'attempts':" COUNT ",'event':" TEXT
		     ",'agentId':" AGENT_ID ",'status':" TEXT ",'createdAt':" TIME ",'nextAttemptAt':" TIME
		     ",'endedAt':" TIME ",'error':" TEXT)},
    {"Deliveries", OBJECT("'items'", "'items':" LIST(REF("Delivery")) ",'nextCursor':" TEXT)},
    {"TeamRules", OBJECT("'rules'", "'rules':" LIST(OBJECT("'name','text','enforced'",
					"'name':" TEXT ",'text':" TEXT ",'glob':" TEXT
					",'enforced':" FLAG)) ",'updatedAt':" TIME ",'updatedBy':" TEXT)},
    {"UserRules", OBJECT("'text'", "'text':" TEXT ",'updatedAt':" TIME)},
    {"McpServer",
	OBJECT("'id','scope','name','type','createdAt','updatedAt'",
	    "'id':" TEXT ",'scope':{'enum':['user','team']},'name':" TEXT
	    ",'type':{'enum':['stdio','http','sse']},'protocol':{'enum':['auto','legacy','modern']},'command':" TEXT
	    ",'args':" LIST(TEXT) ",'env':" TEXTS ",'url':" TEXT ",'headers':" TEXTS ",'auth':" OBJECT("'CLIENT_ID'",
		"'CLIENT_ID':" TEXT ",'CLIENT_SECRET':" TEXT
		",'scopes':" LIST(TEXT)) ",'loggedIn':" FLAG ",'createdAt':" TIME ",'updatedAt':" TIME)},
    {"McpServers", OBJECT("'items'", "'items':" LIST(REF("McpServer")))},
    {"McpListing",
	OBJECT("'name','state','tools'",
	    "'name':" TEXT ",'state':{'enum':['ready','failed','starting','off','auth_required']},'reason':" TEXT
	    ",'instructions':" TEXT ",'warnings':" LIST(TEXT) ",'tools':" LIST(
		"{'type':'object','required':['name'],'properties':{'name':" TEXT "}}"))},
    {"McpLogin", OBJECT("'id','authorizeUrl','expiresAt'", "'id':" TEXT ",'authorizeUrl':" TEXT ",'expiresAt':" TIME)},
    {"McpLoginState",
	OBJECT("'id','state'",
	    "'id':" TEXT ",'state':{'enum':['waiting','confirm','done','failed','expired']},'message':" TEXT)},
    {"McpLoginDone", OBJECT("'state'", "'state':{'const':'done'}")},
    {"McpClient",
	"{'type':'object','required':['client_id','client_name','redirect_uris'],'properties':{'client_id':" TEXT "}}"},
    {"V0Repositories", OBJECT("'repositories'", "'repositories':" LIST(OBJECT("'owner','name','repository'",
						    "'owner':" TEXT ",'name':" TEXT ",'repository':" TEXT)))},
};

/* With ' for ". */
static json_t *form_parse(const char *text)
{
	AUTO_STR quoted = str_dup(text);
	json_t *j = NULL;

	for (char *c = quoted; *c != '\0'; c++)
		*c = *c == '\'' ? '"' : *c;
	ENSURE(json_parse(quoted, strlen(quoted), &j, NULL) == OK);
	return j;
}

void answers_describe(json_t *schemas)
{
	for (size_t i = 0; i < ARRAY_LEN(forms); i++)
		json_put_new(schemas, forms[i].name, form_parse(forms[i].schema));
}

bool answer_is_known(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(forms); i++)
		if (strcmp(forms[i].name, name) == 0)
			return true;
	return false;
}
