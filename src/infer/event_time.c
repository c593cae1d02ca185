/*
 * event_time.c
 *	  Which column is the time of the events, and how far they are out of order.
 *
 * A column can be the event time if each record has it and none is ahead of
 * its record's own time by more than a stream allows.  Of several, the name
 * decides; one that goes back and forth by days is a date of birth or the
 * like.  A topic with several kinds of records may have a time in each kind: a
 * generated column puts them together.  If there is none, the broker's time of
 * the record serves.
 *
 * Disorder is what the watermark will meet: how far an event is behind the
 * highest time seen before it in its partition.  A few stragglers do not
 * decide over everybody's windows: if they are far behind the rest, the bound
 * is that of 99 in 100, and the statement says what is left out.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "infer/proposal.h"
#include "infer/span.h"

#define MAX_AHEAD_US	USECS_PER_HOUR /* a stream's default */
#define MAX_DISORDER_US USECS_PER_DAY  /* more than that is no order at all */
#define STRAGGLERS		10			   /* the furthest is so many times as far as 99 in 100 */

typedef struct Disorder
{
	int64 most_us;
	int64 usual_us; /* of 99 in 100 */
	int behind;		/* records that are behind at all */
	int count;
} Disorder;

static CqProposedColumn *choose(CqProposal *proposal, Disorder *disorder);
static CqProposedColumn *combine(CqProposal *proposal, Disorder *disorder);
static CqProposedColumn *best_part(const CqProposal *proposal, const CqProposedColumn *combined);
static bool overlap(const CqProposal *proposal, const CqProposedColumn *a,
					const CqProposedColumn *b);
static int rank(const char *name);
static bool in_every_record(const CqProposal *proposal, const CqProposedColumn *column);
static bool is_ahead(const CqProposal *proposal, const CqProposedColumn *column);
static Timestamp time_of(const CqProposal *proposal, const CqProposedColumn *column, int record);
static void measure(const CqProposal *proposal, const CqProposedColumn *column, Disorder *disorder);
static int compare_lengths(const void *a, const void *b);
static int64 bound_of(const Disorder *disorder);
static void remark_choice(CqProposal *proposal, const CqProposedColumn *column,
						  const Disorder *disorder);
static void remark_disorder(CqProposal *proposal, const Disorder *disorder);
static void propose_broker_time(CqProposal *proposal);

void
cq_proposal_event_time(CqProposal *proposal)
{
	Disorder disorder;
	CqProposedColumn *column = choose(proposal, &disorder);
	int64 asked_us = proposal->request->out_of_orderness_us;

	if (column == NULL)
		column = combine(proposal, &disorder);
	if (column == NULL)
	{
		propose_broker_time(proposal);
		return;
	}
	proposal->event_time = column->name;
	proposal->out_of_orderness_us = asked_us >= 0 ? asked_us : bound_of(&disorder);
	remark_choice(proposal, column, &disorder);
}

static CqProposedColumn *
choose(CqProposal *proposal, Disorder *disorder)
{
	const char *asked = proposal->request->event_time;
	CqProposedColumn *best = NULL;
	int best_rank = 0;
	ListCell *lc;

	foreach (lc, proposal->columns)
	{
		CqProposedColumn *column = lfirst(lc);
		bool wanted = asked && strcmp(column->name, asked) == 0;
		Disorder its;
		int its_rank;

		if (!column->is_time)
			continue;
		if (!wanted && (!in_every_record(proposal, column) || is_ahead(proposal, column)))
			continue;
		measure(proposal, column, &its);
		if (!wanted && its.usual_us > MAX_DISORDER_US)
			continue;
		its_rank = wanted ? 1000 : rank(column->name) - 5 * column->depth;
		if (best && its_rank <= best_rank)
			continue;
		best = column;
		best_rank = its_rank;
		*disorder = its;
	}
	return best;
}

/* A column of times of which each record has exactly one; NULL if there are no such. */
static CqProposedColumn *
combine(CqProposal *proposal, Disorder *disorder)
{
	CqValues *values = palloc0(sizeof(CqValues));
	CqProposedColumn combined = {.values = values, .is_time = true};
	CqProposedColumn *column;
	CqProposedColumn *part;
	StringInfoData parts;
	int i;

	values->nrecords = proposal->sample->nrecords;
	values->times = palloc(sizeof(Timestamp) * (values->nrecords + 1));
	for (i = 0; i < values->nrecords; i++)
		values->times[i] = DT_NOBEGIN;
	initStringInfo(&parts);
	while ((part = best_part(proposal, &combined)) != NULL)
	{
		combined.type = part->type;
		for (i = 0; i < values->nrecords; i++)
			values->times[i] = Max(values->times[i], part->values->times[i]);
		values->count += part->values->count;
		appendStringInfo(&parts, "%s%s", parts.len > 0 ? ", " : "", quote_identifier(part->name));
	}
	if (values->count == 0 || values->count < proposal->nread)
		return NULL;
	measure(proposal, &combined, disorder);
	if (disorder->usual_us > MAX_DISORDER_US)
		return NULL;
	column = cq_proposal_column(proposal, "event_at", combined.type);
	column->values = values;
	column->generated = psprintf("coalesce(%s)", parts.data);
	return column;
}

/* The column with the best name of which no record has a time that has one by now. */
static CqProposedColumn *
best_part(const CqProposal *proposal, const CqProposedColumn *combined)
{
	CqProposedColumn *best = NULL;
	ListCell *lc;

	foreach (lc, proposal->columns)
	{
		CqProposedColumn *column = lfirst(lc);

		if (!column->is_time || (combined->type && strcmp(column->type, combined->type) != 0) ||
			is_ahead(proposal, column) || overlap(proposal, column, combined))
			continue;
		if (best == NULL || rank(column->name) > rank(best->name))
			best = column;
	}
	return best;
}

static bool
overlap(const CqProposal *proposal, const CqProposedColumn *a, const CqProposedColumn *b)
{
	int i;

	for (i = 0; i < proposal->sample->nrecords; i++)
		if (time_of(proposal, a, i) != DT_NOBEGIN && time_of(proposal, b, i) != DT_NOBEGIN)
			return true;
	return false;
}

static int
rank(const char *name)
{
	static const struct
	{
		const char *part;
		int rank;
	} names[] = {{"expir", 10},
				 {"valid", 10},
				 {"due", 10},
				 {"birth", 10},
				 {"schedul", 10},
				 {"deadline", 10},
				 {"until", 10},
				 {"event", 100},
				 {"occur", 100},
				 {"happen", 100},
				 {"timestamp", 90},
				 {"creat", 70},
				 {"updat", 40},
				 {"modif", 40},
				 {"delet", 40},
				 {"ingest", 40},
				 {"process", 40},
				 {"receiv", 40}};
	int i;

	if (strcmp(name, "ts") == 0 || strcmp(name, "time") == 0 || strcmp(name, "datetime") == 0 ||
		strcmp(name, "at") == 0)
		return 90;
	for (i = 0; i < lengthof(names); i++)
		if (strstr(name, names[i].part) != NULL)
			return names[i].rank;
	return 60;
}

/* Of those that the definition reads. */
static bool
in_every_record(const CqProposal *proposal, const CqProposedColumn *column)
{
	return column->values->count == proposal->nread;
}

/* A time ahead of the record's own makes a dead letter. */
static bool
is_ahead(const CqProposal *proposal, const CqProposedColumn *column)
{
	int ahead = 0;
	int i;

	for (i = 0; i < proposal->sample->nrecords; i++)
	{
		Timestamp time = time_of(proposal, column, i);
		TimestampTz sent = proposal->sample->records[i].timestamp;

		if (sent == DT_NOBEGIN)
			sent = GetCurrentTimestamp();
		ahead += time != DT_NOBEGIN && time > sent + MAX_AHEAD_US;
	}
	return ahead * 100 > proposal->nread;
}

/* DT_NOBEGIN if there is none. */
static Timestamp
time_of(const CqProposal *proposal, const CqProposedColumn *column, int record)
{
	if (column == NULL)
		return proposal->sample->records[record].timestamp;
	return column->values->times ? column->values->times[record] : DT_NOBEGIN;
}

/* Of a column's times; column = NULL: of the broker's. */
static void
measure(const CqProposal *proposal, const CqProposedColumn *column, Disorder *disorder)
{
	const CqSample *sample = proposal->sample;
	int64 *behind = palloc(sizeof(int64) * (sample->nrecords + 1));
	Timestamp highest = DT_NOBEGIN;
	int i;

	MemSet(disorder, 0, sizeof(Disorder));
	for (i = 0; i < sample->nrecords; i++)
	{
		Timestamp time = time_of(proposal, column, i);

		if (i > 0 && sample->records[i].partition != sample->records[i - 1].partition)
			highest = DT_NOBEGIN;
		if (time == DT_NOBEGIN)
			continue;
		behind[disorder->count++] = highest == DT_NOBEGIN ? 0 : Max(highest - time, 0);
		highest = Max(highest, time);
	}
	if (disorder->count == 0)
		return;
	qsort(behind, disorder->count, sizeof(int64), compare_lengths);
	disorder->most_us = behind[disorder->count - 1];
	disorder->usual_us = behind[(int) (((int64) disorder->count * 99 + 99) / 100) - 1];
	for (i = disorder->count; i > 0 && behind[i - 1] > 0; i--)
		disorder->behind++;
	pfree(behind);
}

static int
compare_lengths(const void *a, const void *b)
{
	int64 left = *(const int64 *) a;
	int64 right = *(const int64 *) b;

	return left < right ? -1 : left > right;
}

/* Twice what was seen, since it was a sample only; a second at least. */
static int64
bound_of(const Disorder *disorder)
{
	int64 seen_us = disorder->most_us;

	if (seen_us > STRAGGLERS * Max(disorder->usual_us, USECS_PER_SEC))
		seen_us = disorder->usual_us;
	return cq_span_round_up(Max(2 * seen_us, USECS_PER_SEC));
}

static void
remark_choice(CqProposal *proposal, const CqProposedColumn *column, const Disorder *disorder)
{
	if (column->values->count < proposal->nread)
		cq_proposal_remark(
			proposal,
			"Event time is %s, as asked for, although only %d of %d records have it; "
			"the others will be bad records.",
			column->name,
			column->values->count,
			proposal->nread);
	else
		cq_proposal_remark(proposal,
						   "Event time is %s: each record has %s.",
						   column->name,
						   column->generated ? "one of these columns" : "it");
	remark_disorder(proposal, disorder);
}

static void
remark_disorder(CqProposal *proposal, const Disorder *disorder)
{
	if (disorder->behind == 0)
	{
		cq_proposal_remark(proposal,
						   "In the sample no record is behind an earlier one of its partition.");
		return;
	}
	cq_proposal_remark(proposal,
					   "Behind an earlier record of the same partition: %d of %d in the sample, by "
					   "%s at most, 99 in 100 by no more than %s.",
					   disorder->behind,
					   disorder->count,
					   cq_span_text(disorder->most_us),
					   cq_span_text(disorder->usual_us));
	if (proposal->out_of_orderness_us >= 0 && disorder->most_us > proposal->out_of_orderness_us)
		cq_proposal_remark(proposal,
						   "out_of_orderness does not reach as far as the furthest: such records "
						   "will be late.");
}

/* Of metadata a stream needs to be told no bound; but producers' clocks may differ. */
static void
propose_broker_time(CqProposal *proposal)
{
	int64 asked_us = proposal->request->out_of_orderness_us;
	Disorder disorder;
	ListCell *lc;

	measure(proposal, NULL, &disorder);
	if (proposal->sample->nrecords > 0 && disorder.count == 0)
	{
		cq_proposal_remark(
			proposal,
			"No event time was found; the records have no time of the broker either.");
		return;
	}
	foreach (lc, proposal->columns)
	{
		CqProposedColumn *column = lfirst(lc);

		if (column->metadata && strcmp(column->metadata, "timestamp") == 0)
			proposal->event_time = column->name;
	}
	if (proposal->nothing == NULL)
		cq_proposal_remark(proposal,
						   "No field of the records can be the event time; it is the time that the "
						   "broker has for each of them.");
	if (disorder.behind > 0)
		proposal->out_of_orderness_us = bound_of(&disorder);
	if (asked_us >= 0)
		proposal->out_of_orderness_us = asked_us;
	if (disorder.behind > 0)
		remark_disorder(proposal, &disorder);
}
