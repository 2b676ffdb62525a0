// Runs as events with the library emmett: a program that prints JSON when it is done.
//
// append DSN SECONDS CALLERS CONNECTIONS: each caller appends one event to one new stream after another.
// fill DSN RUNS: whole runs of eight events. project DSN: all events into a table of runs and one of steps, by a
// consumer that commits a batch of events with its checkpoint, as the library does it.

'use strict';
const { randomUUID } = require('node:crypto');
const pg = require('pg');
const { SQL } = require('@event-driven-io/dumbo');
const {
  getPostgreSQLEventStore,
  postgreSQLEventStoreConsumer,
  postgreSQLRawBatchSQLProjection,
} = require('@event-driven-io/emmett-postgresql');

const STEPS = 5;
const BATCH = 1000;
const TABLES = `
  drop table if exists projected_runs, projected_steps;
  create table projected_runs (id text primary key, room text, title text, status text, tags json, input json,
    output json);
  create table projected_steps (id text primary key, run_id text, kind text, title text, input json);`;

const created = (runId, number) => ({
  type: 'RunCreated',
  data: {
    runId,
    room: `room_${number % 1000}`,
    title: 'Plan the offsite',
    goal: 'Everybody in one place for two days',
    input: { people: 12, month: 'June' },
    tags: ['ops', 'bench'],
  },
});

const wholeRun = (runId, number) => [
  created(runId, number),
  { type: 'RunStarted', data: { runId } },
  ...Array.from({ length: STEPS }, () => ({
    type: 'StepCreated',
    data: { runId, stepId: randomUUID(), kind: 'tool', title: 'Find a date', input: { month: 'June' } },
  })),
  { type: 'RunCompleted', data: { runId, summary: 'June', output: { days: 3 } } },
];

async function withStore(dsn, connections, work) {
  const pool = new pg.Pool({ connectionString: dsn, max: connections });
  const store = getPostgreSQLEventStore(dsn, { connectionOptions: { pool } });
  try {
    await store.schema.migrate();
    return await work(store);
  } finally {
    await store.close();
    await pool.end();
  }
}

function append(dsn, seconds, callers, connections) {
  return withStore(dsn, connections, async (store) => {
    let events = 0;
    const started = performance.now();
    const call = async () => {
      while (performance.now() < started + seconds * 1000) {
        const runId = randomUUID();
        await store.appendToStream(`run-${runId}`, [created(runId, events)]);
        events += 1;
      }
    };
    await Promise.all(Array.from({ length: callers }, call));
    return { events, seconds: (performance.now() - started) / 1000 };
  });
}

function fill(dsn, runs) {
  return withStore(dsn, 1, async (store) => {
    const started = performance.now();
    // One after another: its consumer reads in the order of transactions but pages by position, and where the two
    // differ, as they do under concurrent appends, it skips events.
    for (let number = 0; number < runs; number += 1) {
      const runId = randomUUID();
      await store.appendToStream(`run-${runId}`, wholeRun(runId, number));
    }
    return { events: runs * (STEPS + 3), seconds: (performance.now() - started) / 1000 };
  });
}

const evolve = ({ type, data }) => {
  switch (type) {
    case 'RunCreated':
      return SQL`insert into projected_runs values (${data.runId}, ${data.room}, ${data.title}, 'queued',
        ${JSON.stringify(data.tags)}, ${JSON.stringify(data.input)}, null)`;
    case 'RunStarted':
      return SQL`update projected_runs set status = 'running' where id = ${data.runId}`;
    case 'StepCreated':
      return SQL`insert into projected_steps values (${data.stepId}, ${data.runId}, ${data.kind}, ${data.title},
        ${JSON.stringify(data.input)})`;
    default:
      return SQL`update projected_runs set status = 'succeeded', output = ${JSON.stringify(data.output)}
        where id = ${data.runId}`;
  }
};

async function project(dsn) {
  const client = new pg.Client({ connectionString: dsn });
  await client.connect();
  await client.query(TABLES);
  const { rows } = await client.query('select count(*)::int as stored from emt_messages');
  await client.end();
  // A name of its own starts from the beginning.
  const name = `runs-${randomUUID()}`;
  let events = 0;
  const consume = async () => {
    const consumer = postgreSQLEventStoreConsumer({
      connectionString: dsn,
      stopWhen: { noMessagesLeft: true },
      pulling: { batchSize: BATCH },
    });
    consumer.projector({
      processorId: name,
      projection: postgreSQLRawBatchSQLProjection({
        name,
        canHandle: ['RunCreated', 'RunStarted', 'StepCreated', 'RunCompleted'],
        evolve: (batch) => {
          events += batch.length;
          return batch.map(evolve);
        },
      }),
    });
    await consumer.start();
    await consumer.close();
  };
  const started = performance.now();
  // It sees no message younger than the oldest transaction of the server, and so may find none left too early.
  for (let times = 0; events < rows[0].stored && times < 100; times += 1) await consume();
  return { events, seconds: (performance.now() - started) / 1000 };
}

const [mode, dsn, ...rest] = process.argv.slice(2);
const numbers = rest.map(Number);
const modes = { append, fill, project };
modes[mode](dsn, ...numbers).then(
  (counted) => {
    console.log(JSON.stringify(counted));
    process.exit(0);
  },
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
