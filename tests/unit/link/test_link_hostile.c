/* Peers that break the rules: each must end in ERR_PROTOCOL with a sentence, within bounded memory. */
#include "harness.h"
#include "net/grpc.h"

typedef void (*build_fn)(Bullpen__Worker__V1__WorkerFrame *f);

static void put_frame(struct strbuf *out, const ProtobufCMessage *m)
{
	size_t n = protobuf_c_message_get_packed_size(m);
	uint8_t *bytes = mem_alloc(n);

	protobuf_c_message_pack(m, bytes);
	assert_int_equal(grpc_frame(out, bytes, n), OK);
	free(bytes);
}

static void expect_broken(struct link *l, const struct strbuf *bytes, const char *sentence)
{
	struct why why = {""};

	assert_int_equal(link_feed(l, bytes->data, bytes->len, 1000, &why), ERR_PROTOCOL);
	if (strstr(why.text, sentence) == NULL)
		fail_msg("\"%s\" lacks \"%s\"", why.text, sentence);
	/* It stays broken until it is detached. */
	assert_int_equal(link_feed(l, "", 0, 1000, &why), ERR_PROTOCOL);
	assert_int_equal(link_tick(l, 1000, &why), ERR_PROTOCOL);
}

static void ready_world(struct world *w)
{
	world_init(w);
	world_connect(w);
	world_settle(w);
	assert_true(link_ready(w->server));
}

/* Feeds one frame to a ready server. */
static void server_refuses(build_fn build, const char *sentence)
{
	Bullpen__Worker__V1__WorkerFrame f = BULLPEN__WORKER__V1__WORKER_FRAME__INIT;
	struct strbuf bytes = STRBUF(64 << 20);
	struct world w;

	ready_world(&w);
	build(&f);
	put_frame(&bytes, &f.base);
	expect_broken(w.server, &bytes, sentence);
	strbuf_fini(&bytes);
	world_fini(&w);
}

static Bullpen__Worker__V1__CallOutput *output(void)
{
	static Bullpen__Worker__V1__CallOutput m;

	bullpen__worker__v1__call_output__init(&m);
	m.call_id = "c1";
	return &m;
}

static void set_output(Bullpen__Worker__V1__WorkerFrame *f, uint64_t seq)
{
	f->seq = seq;
	f->body_case = BULLPEN__WORKER__V1__WORKER_FRAME__BODY_OUTPUT;
	f->output = output();
}

static void build_gap(Bullpen__Worker__V1__WorkerFrame *f)
{
	set_output(f, 2);
}

static void build_no_number(Bullpen__Worker__V1__WorkerFrame *f)
{
	set_output(f, 0);
}

static void build_ack_of_unsent(Bullpen__Worker__V1__WorkerFrame *f)
{
	set_output(f, 1);
	f->ack = 1;
}

static void build_no_body(Bullpen__Worker__V1__WorkerFrame *f)
{
	f->seq = 1;
}

static void build_no_call_id(Bullpen__Worker__V1__WorkerFrame *f)
{
	set_output(f, 1);
	f->output->call_id = "";
}

static void build_bad_utf8(Bullpen__Worker__V1__WorkerFrame *f)
{
	static Bullpen__Worker__V1__CallResult m;

	bullpen__worker__v1__call_result__init(&m);
	m.call_id = "c1";
	m.result_json = "\xc3(";
	f->seq = 1;
	f->body_case = BULLPEN__WORKER__V1__WORKER_FRAME__BODY_RESULT;
	f->result = &m;
}

static void build_long_id(Bullpen__Worker__V1__WorkerFrame *f)
{
	static char id[70000];

	memset(id, 'i', sizeof id - 1);
	set_output(f, 1);
	f->output->call_id = id;
}

static Bullpen__Worker__V1__Heartbeat *beat(uint64_t nonce)
{
	static Bullpen__Worker__V1__Heartbeat m;

	bullpen__worker__v1__heartbeat__init(&m);
	m.nonce = nonce;
	return &m;
}

static void build_numbered_heartbeat(Bullpen__Worker__V1__WorkerFrame *f)
{
	f->seq = 1;
	f->body_case = BULLPEN__WORKER__V1__WORKER_FRAME__BODY_HEARTBEAT;
	f->heartbeat = beat(0);
}

static void build_unasked_heartbeat(Bullpen__Worker__V1__WorkerFrame *f)
{
	f->body_case = BULLPEN__WORKER__V1__WORKER_FRAME__BODY_HEARTBEAT;
	f->heartbeat = beat(99);
}

static Bullpen__Worker__V1__Hello *hello(void)
{
	static Bullpen__Worker__V1__Hello m;

	bullpen__worker__v1__hello__init(&m);
	m.incarnation = 5;
	return &m;
}

static void build_hello(Bullpen__Worker__V1__WorkerFrame *f)
{
	f->body_case = BULLPEN__WORKER__V1__WORKER_FRAME__BODY_HELLO;
	f->hello = hello();
}

static void rules_are_enforced(void **state)
{
	server_refuses(build_gap, "left out");
	server_refuses(build_no_number, "without a number");
	server_refuses(build_ack_of_unsent, "not sent");
	server_refuses(build_no_body, "without a known body");
	server_refuses(build_no_call_id, "call_id is empty");
	server_refuses(build_bad_utf8, "not UTF-8");
	server_refuses(build_long_id, "longer than");
	server_refuses(build_numbered_heartbeat, "has no number");
	server_refuses(build_unasked_heartbeat, "heartbeat");
	server_refuses(build_hello, "repeated");
}

static void first_frame_must_be_the_hello(void **state)
{
	Bullpen__Worker__V1__WorkerFrame f = BULLPEN__WORKER__V1__WORKER_FRAME__INIT;
	struct strbuf bytes = STRBUF(1 << 20);
	struct world w;

	world_init(&w);
	world_connect(&w);
	set_output(&f, 1);
	put_frame(&bytes, &f.base);
	expect_broken(w.fresh, &bytes, "before the handshake");
	/* And the server's first a welcome. */
	Bullpen__Worker__V1__ServerFrame s = BULLPEN__WORKER__V1__SERVER_FRAME__INIT;
	s.body_case = BULLPEN__WORKER__V1__SERVER_FRAME__BODY_HEARTBEAT;
	s.heartbeat = beat(1);
	strbuf_clear(&bytes);
	put_frame(&bytes, &s.base);
	expect_broken(w.worker, &bytes, "before the handshake");
	strbuf_fini(&bytes);
	world_fini(&w);
}

/* After a hello, before the application answered it. */
static void frames_between_hello_and_welcome(void **state)
{
	Bullpen__Worker__V1__WorkerFrame f = BULLPEN__WORKER__V1__WORKER_FRAME__INIT;
	struct strbuf bytes = STRBUF(1 << 20);
	struct world w;

	world_init(&w);
	world_connect(&w);
	build_hello(&f);
	put_frame(&bytes, &f.base);
	set_output(&f, 1);
	put_frame(&bytes, &f.base);
	expect_broken(w.fresh, &bytes, "before the handshake");
	strbuf_fini(&bytes);
	world_fini(&w);
}

static void hello_lists_are_bounded(void **state)
{
	Bullpen__Worker__V1__WorkerFrame f = BULLPEN__WORKER__V1__WORKER_FRAME__INIT;
	Bullpen__Worker__V1__Root root = BULLPEN__WORKER__V1__ROOT__INIT, **list;
	struct strbuf bytes = STRBUF(8 << 20);
	const size_t counts[] = {21, 100000};
	const char *const sentences[] = {"roots", "cannot be decoded"};

	list = mem_alloc(100000 * sizeof *list);
	for (size_t i = 0; i < 100000; i++)
		list[i] = &root;
	for (size_t i = 0; i < ARRAY_LEN(counts); i++) {
		struct world w;

		world_init(&w);
		world_connect(&w);
		build_hello(&f);
		f.hello->roots = list;
		f.hello->n_roots = counts[i];
		strbuf_clear(&bytes);
		put_frame(&bytes, &f.base);
		expect_broken(w.fresh, &bytes, sentences[i]);
		world_fini(&w);
	}
	free(list);
	strbuf_fini(&bytes);
}

static void huge_lengths_are_refused_at_once(void **state)
{
	static const char huge[] = {0, 0x7f, 0, 0, 0}, hello_size[] = {0, 0, 16, 0, 0}, compressed[] = {1, 0, 0, 0, 1};
	const struct {
		const char *bytes;
	} cases[] = {{huge}, {hello_size}, {compressed}};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct strbuf bytes = STRBUF(16);
		struct world w;

		world_init(&w);
		world_connect(&w);
		strbuf_add(&bytes, cases[i].bytes, 5);
		expect_broken(w.fresh, &bytes, "too large or compressed");
		strbuf_fini(&bytes);
		world_fini(&w);
	}
}

static void replayed_bytes_are_ignored_reordered_ones_refused(void **state)
{
	Bullpen__Worker__V1__WorkerFrame f = BULLPEN__WORKER__V1__WORKER_FRAME__INIT;
	struct strbuf a = STRBUF(1 << 20), b = STRBUF(1 << 20);
	struct link_event e;
	struct world w;

	ready_world(&w);
	set_output(&f, 1);
	put_frame(&a, &f.base);
	for (int i = 0; i < 3; i++)
		assert_int_equal(link_feed(w.server, a.data, a.len, w.now, NULL), OK);
	assert_int_equal(link_next(w.server, &e), OK);
	assert_int_equal(e.kind, LINK_OUTPUT);
	assert_int_equal(link_next(w.server, &e), ERR_EMPTY);
	set_output(&f, 3);
	put_frame(&b, &f.base);
	set_output(&f, 2);
	put_frame(&b, &f.base);
	expect_broken(w.server, &b, "left out");
	strbuf_fini(&a);
	strbuf_fini(&b);
	world_fini(&w);
}

static void bad_welcomes(void **state)
{
	const struct {
		uint64_t incarnation, received;
		bool resumed;
		const char *sentence;
	} cases[] = {{0, 0, false, "no incarnation"}, {9, 0, true, "never had"}, {7, 5, true, "cannot have"}};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		Bullpen__Worker__V1__ServerFrame f = BULLPEN__WORKER__V1__SERVER_FRAME__INIT;
		Bullpen__Worker__V1__Welcome m = BULLPEN__WORKER__V1__WELCOME__INIT;
		struct strbuf bytes = STRBUF(1 << 20);
		struct world w;

		ready_world(&w); /* with the server's incarnation 7 */
		world_cut_worker(&w);
		world_connect(&w);
		m.server_incarnation = cases[i].incarnation;
		m.received_seq = cases[i].received;
		m.resumed = cases[i].resumed;
		f.body_case = BULLPEN__WORKER__V1__SERVER_FRAME__BODY_WELCOME;
		f.welcome = &m;
		put_frame(&bytes, &f.base);
		expect_broken(w.worker, &bytes, cases[i].sentence);
		strbuf_fini(&bytes);
		world_fini(&w);
	}
}

static void a_hello_from_the_future_is_not_resumed(void **state)
{
	Bullpen__Worker__V1__WorkerFrame f = BULLPEN__WORKER__V1__WORKER_FRAME__INIT;
	struct strbuf bytes = STRBUF(1 << 20);
	struct link_event e;
	struct world w;

	ready_world(&w);
	world_cut_worker(&w);
	world_connect(&w);
	build_hello(&f);
	f.hello->incarnation = w.worker_incarnation;
	f.hello->server_incarnation = w.server_incarnation;
	f.hello->received_seq = 1000;
	put_frame(&bytes, &f.base);
	assert_int_equal(link_feed(w.fresh, bytes.data, bytes.len, w.now, NULL), OK);
	assert_int_equal(link_next(w.fresh, &e), OK);
	assert_false(link_resume(w.server, &w.fresh, w.now));
	assert_non_null(w.fresh);
	strbuf_fini(&bytes);
	world_fini(&w);
}

/* An application that takes nothing: bounded memory, then an error; and one that takes late loses nothing. */
static void events_wait_within_bounds(void **state)
{
	Bullpen__Worker__V1__WorkerFrame f = BULLPEN__WORKER__V1__WORKER_FRAME__INIT;
	struct strbuf bytes = STRBUF(16 << 20);
	struct link_event e;
	struct why why = {""};
	struct world w;
	unsigned n = 0;
	int rc = OK;

	ready_world(&w);
	for (uint64_t seq = 1; seq <= 5000; seq++) {
		set_output(&f, seq);
		put_frame(&bytes, &f.base);
	}
	assert_int_equal(link_feed(w.server, bytes.data, bytes.len, w.now, &why), OK);
	while (link_next(w.server, &e) == OK)
		n++;
	assert_int_equal(n, 5000);

	static uint8_t data[60000];
	for (uint64_t seq = 5001; rc == OK && seq < 9000; seq++) {
		set_output(&f, seq);
		f.output->data.data = data;
		f.output->data.len = sizeof data;
		strbuf_clear(&bytes);
		put_frame(&bytes, &f.base);
		rc = link_feed(w.server, bytes.data, bytes.len, w.now, &why);
	}
	assert_int_equal(rc, ERR_PROTOCOL);
	assert_non_null(strstr(why.text, "faster"));
	strbuf_fini(&bytes);
	world_fini(&w);
}

static void many_heartbeats_do_not_fill_the_output(void **state)
{
	Bullpen__Worker__V1__ServerFrame f = BULLPEN__WORKER__V1__SERVER_FRAME__INIT;
	struct strbuf bytes = STRBUF(16 << 20);
	const void *out;
	struct world w;

	ready_world(&w);
	f.body_case = BULLPEN__WORKER__V1__SERVER_FRAME__BODY_HEARTBEAT;
	for (uint64_t i = 0; i < 100000; i++) {
		f.heartbeat = beat(i);
		put_frame(&bytes, &f.base);
	}
	assert_int_equal(link_feed(w.worker, bytes.data, bytes.len, w.now, NULL), OK);
	assert_true(link_out(w.worker, &out) < 70000);
	strbuf_fini(&bytes);
	world_fini(&w);
}

/* The packed frame with a NUL in the place of each '#'. */
static void put_with_nuls(struct strbuf *out, const ProtobufCMessage *m)
{
	size_t at = out->len;

	put_frame(out, m);
	for (; at < out->len; at++)
		out->data[at] = out->data[at] == '#' ? '\0' : out->data[at];
}

static void expect_nul_refused(struct link *l, const ProtobufCMessage *m)
{
	struct strbuf bytes = STRBUF(1 << 20);

	put_with_nuls(&bytes, m);
	expect_broken(l, &bytes, "NUL");
	strbuf_fini(&bytes);
}

/* "a", NUL, "b" would be taken for the worker "a". */
static void a_hello_with_a_nul_is_refused(void **state)
{
	Bullpen__Worker__V1__WorkerFrame f = BULLPEN__WORKER__V1__WORKER_FRAME__INIT;
	Bullpen__Worker__V1__Root root = BULLPEN__WORKER__V1__ROOT__INIT, *roots[] = {&root};
	Bullpen__Worker__V1__Fitness fitness = BULLPEN__WORKER__V1__FITNESS__INIT;

	for (int i = 0; i < 4; i++) {
		struct world w;

		world_init(&w);
		world_connect(&w);
		build_hello(&f);
		f.hello->worker_id = i == 0 ? "a#b" : "a";
		root.repo = i == 1 ? "acme/#web" : "acme/web";
		f.hello->n_roots = 1;
		f.hello->roots = roots;
		fitness.reason = i == 2 ? "#" : "";
		f.hello->fitness = &fitness;
		if (i < 3) {
			expect_nul_refused(w.fresh, &f.base);
		} else {
			struct strbuf bytes = STRBUF(1 << 20);

			put_with_nuls(&bytes, &f.base);
			assert_int_equal(link_feed(w.fresh, bytes.data, bytes.len, 1000, NULL), OK);
			strbuf_fini(&bytes);
		}
		world_fini(&w);
	}
}

static void frames_with_a_nul_are_refused_by_both_ends(void **state)
{
	Bullpen__Worker__V1__WorkerFrame f = BULLPEN__WORKER__V1__WORKER_FRAME__INIT;
	Bullpen__Worker__V1__ServerFrame s = BULLPEN__WORKER__V1__SERVER_FRAME__INIT;
	Bullpen__Worker__V1__CallResult result = BULLPEN__WORKER__V1__CALL_RESULT__INIT;
	Bullpen__Worker__V1__Call call = BULLPEN__WORKER__V1__CALL__INIT;
	Bullpen__Worker__V1__CallOutput out = BULLPEN__WORKER__V1__CALL_OUTPUT__INIT;
	struct strbuf bytes = STRBUF(1 << 20);
	struct world w;

	ready_world(&w);
	f.seq = s.seq = 1;
	f.body_case = BULLPEN__WORKER__V1__WORKER_FRAME__BODY_RESULT;
	f.result = &result;
	result.call_id = "c1";
	result.model_text = "a#";
	expect_nul_refused(w.server, &f.base);
	s.body_case = BULLPEN__WORKER__V1__SERVER_FRAME__BODY_CALL;
	s.call = &call;
	call.call_id = "c1";
	call.arguments_json = "{#}";
	expect_nul_refused(w.worker, &s.base);
	world_fini(&w);
	/* Output is bytes, whatever they are. */
	ready_world(&w);
	f.body_case = BULLPEN__WORKER__V1__WORKER_FRAME__BODY_OUTPUT;
	f.output = &out;
	out.call_id = "c1";
	out.data.data = (uint8_t *)"a#b";
	out.data.len = 3;
	put_with_nuls(&bytes, &f.base);
	assert_int_equal(link_feed(w.server, bytes.data, bytes.len, 1000, NULL), OK);
	strbuf_fini(&bytes);
	world_fini(&w);
}

static void build_bad_fitness_code(Bullpen__Worker__V1__WorkerFrame *f)
{
	static Bullpen__Worker__V1__Fitness m;

	bullpen__worker__v1__fitness__init(&m);
	m.code = "two words";
	f->seq = 1;
	f->body_case = BULLPEN__WORKER__V1__WORKER_FRAME__BODY_FITNESS;
	f->fitness = &m;
}

static void build_long_fitness_reason(Bullpen__Worker__V1__WorkerFrame *f)
{
	static char reason[1026];

	build_bad_fitness_code(f);
	f->fitness->code = "";
	memset(reason, 'r', sizeof reason - 1);
	f->fitness->reason = reason;
}

static void fitness_is_bounded(void **state)
{
	server_refuses(build_bad_fitness_code, "fitness.code");
	server_refuses(build_long_fitness_reason, "fitness.reason");
}

static void garbage(void **state)
{
	uint64_t x = 88172645463325252u;

	for (int round = 0; round < 20000; round++) {
		char bytes[64];
		struct link_event e;
		struct world w;
		struct link *l;

		for (size_t i = 0; i < sizeof bytes; i++) {
			x ^= x << 13;
			x ^= x >> 7;
			x ^= x << 17;
			bytes[i] = (char)x;
		}
		/* A believable prefix, so that the decoder gets its share. */
		memcpy(bytes, (const char[]){0, 0, 0, 0, 40}, 5);
		if (round & 1)
			ready_world(&w);
		else {
			world_init(&w);
			world_connect(&w);
		}
		l = round & 2 ? w.worker : w.fresh != NULL ? w.fresh : w.server;
		IGNORE(link_feed(l, bytes, 45, w.now, NULL));
		while (link_next(l, &e) == OK)
			;
		world_fini(&w);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(rules_are_enforced),
	    cmocka_unit_test(first_frame_must_be_the_hello),
	    cmocka_unit_test(frames_between_hello_and_welcome),
	    cmocka_unit_test(hello_lists_are_bounded),
	    cmocka_unit_test(huge_lengths_are_refused_at_once),
	    cmocka_unit_test(replayed_bytes_are_ignored_reordered_ones_refused),
	    cmocka_unit_test(bad_welcomes),
	    cmocka_unit_test(a_hello_from_the_future_is_not_resumed),
	    cmocka_unit_test(events_wait_within_bounds),
	    cmocka_unit_test(many_heartbeats_do_not_fill_the_output),
	    cmocka_unit_test(a_hello_with_a_nul_is_refused),
	    cmocka_unit_test(frames_with_a_nul_are_refused_by_both_ends),
	    cmocka_unit_test(fitness_is_bounded),
	    cmocka_unit_test(garbage),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
