/*
 * position.c
 *	  How far a reader of a local stream has come: which transactions' rows it
 *	  has read.
 *
 * Numbers from a sequence do not do: a transaction that took a low one may
 * commit after a reader has gone past it.  What a reader has read is described
 * by the transactions whose rows they were, and "all that had ended at a time"
 * is a snapshot.  See local_source.c.
 *
 * Text form: era/old, or era/old/new/xid/seq within a difference, where a
 * snapshot is xmin:xmax:xip,xip,... as PostgreSQL writes a pg_snapshot.
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/xact.h"
#include "lib/stringinfo.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "source/local/position.h"

static uint64 widen(TransactionId xid, FullTransactionId next);
static int compare_xids(const void *a, const void *b);
static void snapshot_format(StringInfo text, const CqXidSnapshot *xids);
static void snapshot_parse(const char **text, CqXidSnapshot *xids);
static uint64 parse_number(const char **text);
static void expect(const char **text, char c);
static void malformed(void) CQ_NORETURN;
static bool ended_between(const CqLocalPosition *position, uint64 xid);

void
cq_xid_snapshot_take(CqXidSnapshot *xids, Snapshot snapshot)
{
	FullTransactionId next = ReadNextFullTransactionId();
	FullTransactionId own = GetTopFullTransactionIdIfAny();
	uint32 i;

	Assert(IsMVCCSnapshot(snapshot));
	if (snapshot->takenDuringRecovery)
		elog(ERROR, "cannot read a local stream during recovery");
	xids->xmin = widen(snapshot->xmin, next);
	xids->xmax = widen(snapshot->xmax, next);
	xids->xip = palloc(sizeof(uint64) * (snapshot->xcnt + 1));
	xids->nxip = 0;
	for (i = 0; i < snapshot->xcnt; i++)
		xids->xip[xids->nxip++] = widen(snapshot->xip[i], next);

	/* a snapshot leaves its own transaction out, whose rows cannot be read before it commits */
	if (FullTransactionIdIsValid(own) && U64FromFullTransactionId(own) < xids->xmax)
	{
		xids->xip[xids->nxip++] = U64FromFullTransactionId(own);
		xids->xmin = Min(xids->xmin, U64FromFullTransactionId(own));
	}
	qsort(xids->xip, xids->nxip, sizeof(uint64), compare_xids);
}

/* An id of the recent past, as all ids of a snapshot are. */
static uint64
widen(TransactionId xid, FullTransactionId next)
{
	uint64 epoch = EpochFromFullTransactionId(next);

	if (xid > XidFromFullTransactionId(next))
		epoch--;
	return (epoch << 32) | xid;
}

static int
compare_xids(const void *a, const void *b)
{
	uint64 left = *(const uint64 *) a;
	uint64 right = *(const uint64 *) b;

	return left < right ? -1 : left > right;
}

void
cq_xid_snapshot_nothing(CqXidSnapshot *xids)
{
	MemSet(xids, 0, sizeof(*xids));
}

void
cq_xid_snapshot_everything(CqXidSnapshot *xids)
{
	MemSet(xids, 0, sizeof(*xids));
	xids->xmin = xids->xmax = PG_UINT64_MAX;
}

void
cq_xid_snapshot_copy(CqXidSnapshot *to, const CqXidSnapshot *from)
{
	*to = *from;
	to->xip = palloc(sizeof(uint64) * (from->nxip + 1));
	if (from->nxip > 0)
		memcpy(to->xip, from->xip, sizeof(uint64) * from->nxip);
}

bool
cq_xid_snapshot_sees(const CqXidSnapshot *xids, uint64 xid)
{
	if (xid < xids->xmin)
		return true;
	if (xid >= xids->xmax)
		return false;
	return xids->nxip == 0 ||
		   bsearch(&xid, xids->xip, xids->nxip, sizeof(uint64), compare_xids) == NULL;
}

bool
cq_xid_snapshot_within(const CqXidSnapshot *inner, const CqXidSnapshot *outer)
{
	int i;

	if (inner->xmax > outer->xmax)
		return false;
	for (i = 0; i < outer->nxip; i++)
		if (cq_xid_snapshot_sees(inner, outer->xip[i]))
			return false;
	return true;
}

char *
cq_local_position_format(const CqLocalPosition *position)
{
	StringInfoData text;

	initStringInfo(&text);
	appendStringInfo(&text, "%d/", position->era);
	snapshot_format(&text, &position->old);
	if (position->reading)
	{
		appendStringInfoChar(&text, '/');
		snapshot_format(&text, &position->new);
		appendStringInfo(&text, "/" UINT64_FORMAT "/" INT64_FORMAT, position->xid, position->seq);
	}
	return text.data;
}

static void
snapshot_format(StringInfo text, const CqXidSnapshot *xids)
{
	int i;

	appendStringInfo(text, UINT64_FORMAT ":" UINT64_FORMAT ":", xids->xmin, xids->xmax);
	for (i = 0; i < xids->nxip; i++)
		appendStringInfo(text, "%s" UINT64_FORMAT, i > 0 ? "," : "", xids->xip[i]);
}

void
cq_local_position_parse(const char *text, CqLocalPosition *position)
{
	MemSet(position, 0, sizeof(*position));
	position->era = (int32) parse_number(&text);
	expect(&text, '/');
	snapshot_parse(&text, &position->old);
	if (*text != '\0')
	{
		position->reading = true;
		expect(&text, '/');
		snapshot_parse(&text, &position->new);
		expect(&text, '/');
		position->xid = parse_number(&text);
		expect(&text, '/');
		position->seq = (int64) parse_number(&text);
	}
	if (*text != '\0' || position->era < 1)
		malformed();
}

static void
snapshot_parse(const char **text, CqXidSnapshot *xids)
{
	int capacity = 16;

	xids->xmin = parse_number(text);
	expect(text, ':');
	xids->xmax = parse_number(text);
	expect(text, ':');
	xids->nxip = 0;
	xids->xip = palloc(sizeof(uint64) * capacity);
	while (**text >= '0' && **text <= '9')
	{
		if (xids->nxip == capacity)
			xids->xip = repalloc(xids->xip, sizeof(uint64) * (capacity *= 2));
		xids->xip[xids->nxip] = parse_number(text);
		if (xids->nxip > 0 && xids->xip[xids->nxip] <= xids->xip[xids->nxip - 1])
			malformed();
		xids->nxip++;
		if (**text != ',')
			break;
		(*text)++;
	}
	if (xids->xmin > xids->xmax)
		malformed();
}

static uint64
parse_number(const char **text)
{
	char *end;
	uint64 number;

	if (**text < '0' || **text > '9')
		malformed();
	errno = 0;
	number = strtoull(*text, &end, 10);
	if (errno != 0)
		malformed();
	*text = end;
	return number;
}

static void
expect(const char **text, char c)
{
	if (**text != c)
		malformed();
	(*text)++;
}

static void
malformed(void)
{
	ereport(ERROR,
			errcode(ERRCODE_DATA_CORRUPTED),
			errmsg("saved position in a local stream is not valid"));
}

/*
 * Two kinds of transactions: those that old knew to be running, and those that
 * began after it.  Those that are still running in new are left out of the
 * ranges one by one, so that rows nobody can see yet are not even visited.
 */
int
cq_local_position_ranges(const CqLocalPosition *position, CqXidRange **ranges)
{
	const CqXidSnapshot *old = &position->old;
	const CqXidSnapshot *new = &position->new;
	CqXidRange *all = palloc(sizeof(CqXidRange) * (old->nxip + new->nxip + 2));
	uint64 first = old->xmax;
	int n = 0;
	int kept = 0;
	int i;

	Assert(position->reading);
	for (i = 0; i < old->nxip; i++)
		if (ended_between(position, old->xip[i]))
			all[n++] = (CqXidRange){old->xip[i], old->xip[i], PG_INT64_MIN};
	for (i = 0; i < new->nxip; i++)
	{
		if (new->xip[i] < first)
			continue;
		if (new->xip[i] > first)
			all[n++] = (CqXidRange){first, new->xip[i] - 1, PG_INT64_MIN};
		first = new->xip[i] + 1;
	}
	if (first < new->xmax)
		all[n++] = (CqXidRange){first, new->xmax - 1, PG_INT64_MIN};

	/* what was read already; a range that is begun is split behind its last transaction */
	*ranges = palloc(sizeof(CqXidRange) * (n + 1));
	for (i = 0; i < n; i++)
	{
		if (position->xid == 0 || all[i].first > position->xid)
			(*ranges)[kept++] = all[i];
		else if (all[i].last >= position->xid)
		{
			(*ranges)[kept++] = (CqXidRange){position->xid, position->xid, position->seq};
			if (all[i].last > position->xid)
				(*ranges)[kept++] = (CqXidRange){position->xid + 1, all[i].last, PG_INT64_MIN};
		}
	}
	pfree(all);
	return kept;
}

static bool
ended_between(const CqLocalPosition *position, uint64 xid)
{
	return xid < position->old.xmax && cq_xid_snapshot_sees(&position->new, xid);
}
