/*
 * plan.h
 *	  How a continuous view's query is carried out: stage query, operator,
 *	  close query.
 *
 * A query is split at its lowest stateful level.  What stands below - scan of
 * the stream, filter, joins with tables, expressions - is the stage query; it
 * runs over each batch.  What stands at and above is kept by an operator and,
 * when a window closes, finished by the close query, which reads the closed
 * rows as an ephemeral named relation.
 */
#pragma once

#include "postgres.h"

#include "access/tupdesc.h"
#include "datatype/timestamp.h"
#include "nodes/bitmapset.h"
#include "nodes/parsenodes.h"

#include "catalog/feeds.h"

/* Name of the ephemeral relation that a close query reads. */
#define CQ_CLOSED_ROWS "pipeline_closed_rows"

typedef enum CqShape
{
	CQ_SHAPE_APPEND,	/* nothing stateful: stage rows are the view's rows */
	CQ_SHAPE_AGGREGATE, /* groups with transition values */
	CQ_SHAPE_ROWS		/* the window's rows are kept until it closes */
} CqShape;

typedef enum CqEmit
{
	CQ_EMIT_WINDOW_CLOSE,
	CQ_EMIT_CHANGES
} CqEmit;

#define CQ_EMIT_DEFAULT (-1) /* as an option: what suits the query */

typedef enum CqWindowKind
{
	CQ_WINDOW_NONE,
	CQ_WINDOW_TUMBLE,	/* fixed size: pipeline.tumble, date_bin */
	CQ_WINDOW_TRUNC,	/* calendar: date_trunc */
	CQ_WINDOW_HOP,		/* fixed size, one beginning every slide: pipeline.hop */
	CQ_WINDOW_CUMULATE, /* growing in steps from the start of a period: pipeline.cumulate */
	CQ_WINDOW_SESSION,	/* of a group, until nothing comes for size_us: pipeline.session */
	CQ_WINDOW_COUNT		/* so many events of a group: pipeline.count_window */
} CqWindowKind;

typedef struct CqWindow
{
	CqWindowKind kind;
	Oid time_type;		/* timestamptz or timestamp */
	int64 size_us;		/* CQ_WINDOW_CUMULATE: of the period; CQ_WINDOW_SESSION: the gap */
	int64 origin_us;	/* likewise: a start of a window, as a Timestamp */
	int64 slide_us;		/* of windows that overlap: from the end of one to the next one's */
	char *unit;			/* CQ_WINDOW_TRUNC: as given to date_trunc, lower case */
	char *zone;			/* likewise; NULL = TimeZone setting of the view */
	bool processing;	/* by the time at which events are taken in, not their own */
	int64 size_events;	/* CQ_WINDOW_COUNT */
	int64 slide_events; /* likewise: from the first event of a window to the next one's */
} CqWindow;

/* Can an event come when its window is complete? */
static inline bool
cq_window_has_late(const CqWindow *window)
{
	return window->kind != CQ_WINDOW_NONE && window->kind != CQ_WINDOW_COUNT && !window->processing;
}

/* Is a time in several windows? */
static inline bool
cq_window_overlaps(const CqWindow *window)
{
	return window->kind == CQ_WINDOW_HOP || window->kind == CQ_WINDOW_CUMULATE;
}

/* What a key column of the closed rows is made of. */
typedef enum CqKeyRole
{
	CQ_KEY_VALUE,		 /* a column of the stage rows */
	CQ_KEY_WINDOW_RANGE, /* [start, end) as tstzrange / tsrange */
	CQ_KEY_WINDOW_START, /* the window's start (date_bin, date_trunc, lower()) */
	CQ_KEY_WINDOW_END,	 /* the window's end (upper()) */
	CQ_KEY_WINDOW_NUMBER /* CQ_WINDOW_COUNT: number of the window in its group, from 1 */
} CqKeyRole;

typedef struct CqKey
{
	CqKeyRole role;
	Oid type;
	int32 typmod;
	Oid collation;
	Oid equality_operator;
	int stage_column; /* 0-based column of the stage rows (column 0 is the ordinal); VALUE only */
} CqKey;

typedef struct CqAggregate
{
	Aggref *aggref;	   /* arguments are Vars of OUTER_VAR: stage columns, 1-based */
	int nargs;		   /* direct, transition arguments */
	int *arg_columns;  /* 0-based stage columns */
	int filter_column; /* 0-based boolean stage column; -1 = none */
	int set;		   /* DISTINCT: number of the set of values that it shares; else -1 */
	int set_bit;	   /* which of the aggregates over that set */
} CqAggregate;

/* Values that aggregates with DISTINCT have taken; one set for all with the same argument. */
typedef struct CqDistinctSet
{
	int stage_column;
	Oid type;
	Oid collation;
	Oid equality_operator;
	int naggregates; /* at most CQ_SET_AGGREGATES */
} CqDistinctSet;

#define CQ_SET_AGGREGATES 64 /* a value's mark is a word with a bit for each */

/* One expression that ranks rows. */
typedef struct CqTopKey
{
	int stage_column; /* 0-based; column 0 is the ordinal.  Of groups: column of closed rows */
	Oid sort_operator;
	Oid collation;
	bool nulls_first;
} CqTopKey;

/*
 * Of the rows or the groups of a window that agree in the partition's columns,
 * only those matter that may be among the first "limit" by the sort keys.
 */
typedef struct CqTop
{
	int64 limit;
	bool ties; /* rank(): a row equal to the last one counts as well */
	int npartition;
	CqKey *partition; /* stage columns besides the window */
	int nsort;
	CqTopKey *sort;
} CqTop;

/* A stream that a query reads. */
typedef struct CqPlanStream
{
	Oid relid;
	Bitmapset *columns; /* attribute numbers that are read of it, event time included */
} CqPlanStream;

typedef struct CqPlan
{
	CqShape shape;
	CqEmit emit;	 /* CHANGES: the result table has a row per group, which may change */
	bool replaced;	 /* CHANGES with ROWS: it has what the close query gives for a window */
	bool shows_open; /* CHANGES with windows: rows of windows that are not complete, too */
	const char *corrected_by; /* option by which complete windows change; NULL = they do not */
	Oid stream;				  /* foreign table that the stage reads */
	Bitmapset *columns;		  /* attribute numbers read of it, event time included */
	CqWindow window;		  /* kind NONE for unwindowed and append */
	bool sliced; /* windows that overlap share slices; otherwise each keeps its own state */

	/*
	 * The stage query.  Its first output column is the stream row's ctid (the
	 * event's ordinal).  Further ones: APPEND: the view's columns in order.
	 * AGGREGATE: value keys, then arguments and filters.  ROWS: whatever the
	 * close query reads.
	 */
	Query *stage;
	bool stage_has_joins; /* reads relations besides the stream */

	/*
	 * Several workers keep parts of the state, which are put together when a
	 * window closes.  disjoint: no group is in two parts, as far as the stream's
	 * option "partition_key" is true; otherwise groups are combined.
	 */
	bool divided;
	bool disjoint;

	/*
	 * AGGREGATE: what rows are grouped by.  ROWS: what says which window a row
	 * is given out for, if it is in several; never a value.
	 */
	int nkeys;
	CqKey *keys;

	/* ROWS over sessions or count windows: stage columns that say whose an event belongs to */
	int nsession_keys;
	CqKey *session_keys;

	/* AGGREGATE: */
	int naggregates;
	CqAggregate *aggregates;
	int nsets;
	CqDistinctSet *sets;
	bool retracts; /* rows may be taken back: what is read is a view whose rows change */
	int live;	   /* likewise: the aggregate that counts a group's rows */

	/*
	 * Columns of the closed rows: AGGREGATE: keys then aggregates' results;
	 * ROWS: keys, then stage columns without the ordinal.
	 */
	TupleDesc closed_desc;
	char *closed_name; /* under which the close query reads them */
	Query *close; /* reads closed rows; its columns are the view's.  Not of groups that change */

	const char *rows_why; /* ROWS: what it is that cannot be kept incrementally */
	CqTop *top;			  /* which rows may be forgotten at once, or groups at the end */

	/*
	 * CHANGES of groups: the user's view over the result table, whose columns are those
	 * of closed_desc (table columns c1..cn, then _gid).  RTE 1 of its split
	 * level is a placeholder that cq_plan_upper_query() points at the table.
	 */
	Query *upper;

	/* What the plan depends on besides: watched and locked by all prepared from it. */
	List *relations;   /* of Oid: everything the whole query reads, expanded views included */
	List *inval_items; /* of PlanInvalItem *: its functions and types */

	/*
	 * What gives the closed rows: itself, unless the query reads streams in several
	 * places.  Then each place has a plan of its own, of which everything counts
	 * but emit, result_desc and close; and of this one nothing that is about
	 * stage, operator and closed rows.  window is the same.
	 */
	int ninputs;
	struct CqPlan **inputs;

	/*
	 * Of an input: what gives it its stage rows: itself, and for each further branch
	 * of a UNION ALL of streams a plan of which only the stage counts; the columns
	 * of its rows are the same.
	 */
	int nstages;
	struct CqPlan **stages;

	/* Of the whole: the streams that it reads; their numbers are the places here. */
	int nstreams;
	CqPlanStream *streams;

	TupleDesc result_desc;	/* the view's columns: names and types */
	CqDerivedTime time;		/* of the view's rows, for views that read them */
	CqDerivedTime row_time; /* likewise for retention: the start of a window of any size will do */
	List *notices;			/* of char *: what was understood; one sentence each */
} CqPlan;

/*
 * Work out how to carry out a query (parsed and analysed, not rewritten: as
 * stored in a view's rule).  Ordinary views in it are expanded first, streams
 * in views included.  Error with a hint when it cannot be kept continuously.
 * emit: what the user asked for, or -1.  corrected_by: the option by which windows
 * take late events in for a while after they were complete, or NULL.  divided:
 * several workers keep the view, each what comes from some of the partitions.  feeds
 * (of CqFeed *): through which streams other continuous views are read; others are
 * tables.  The result is allocated in the current memory context; query is not changed.
 */
extern CqPlan *cq_plan_query(const Query *query, int emit, const char *corrected_by, bool divided,
							 const List *feeds, const char *view_name);

/* Number of a stream of the whole plan. */
extern int cq_plan_stream_number(const CqPlan *plan, Oid stream);

/* Of a plan with windows, for a sentence: "when their window closes", for instance. */
extern const char *cq_plan_when_rows_appear(const CqPlan *plan);

/* The query of a stored (hidden) view relation, as a copy fit for cq_plan_query(). */
extern Query *cq_plan_stored_query(Oid query_view);

/* CHANGES: the upper query reading the result table, for the definition of the user's view. */
extern Query *cq_plan_upper_query(const CqPlan *plan, Oid result_table);

/* Stage, operator and close query as a readable tree, for pipeline.explain(). */
extern char *cq_plan_explain(const CqPlan *plan);
