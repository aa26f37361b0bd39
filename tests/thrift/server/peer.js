// Apache's Node.js client: does for each job on the command line what test_node.py expects, and
// prints what came of it. The directory that it runs in has the bindings and node_modules.
"use strict";
const path = require("path");
const here = (name) => require(path.join(process.cwd(), name));
const thrift = here("node_modules/thrift");
const Calculator = here("Calculator");
const types = here("example_types");

const TRANSPORTS = { framed: thrift.TFramedTransport, buffered: thrift.TBufferedTransport };
const PROTOCOLS = {
  binary: thrift.TBinaryProtocol,
  compact: thrift.TCompactProtocol,
  json: thrift.TJSONProtocol,
};

function connect(job) {
  const options = { transport: TRANSPORTS[job.transport], protocol: PROTOCOLS[job.protocol] };
  if (job.path !== null) {
    const connection = thrift.createHttpConnection(job.host, job.port, {
      ...options,
      path: job.path,
    });
    const create = thrift.createHttpClient;
    return [connection, create, (name) =>
      new thrift.Multiplexer().createClient(name, Calculator, connection)];
  }
  const connection = thrift.createConnection(job.host, job.port, options);
  return [connection, thrift.createClient, (name) =>
    new thrift.Multiplexer().createClient(name, Calculator, connection)];
}

async function failure(promise) {
  try {
    return { returned: await promise };
  } catch (error) {
    return { name: error.name, type: error.type, message: error.message, ...error };
  }
}

async function converse(client) {
  const item = new types.Item({ id: 7, name: "Zoë", numbers: [1, -1], weights: { a: 0.5 } });
  const echoed = await client.echo(item);
  await client.nothing();
  client.note("from node");
  const order = [];
  const calls = [];
  for (let number = 0; number < 100; number++) {
    calls.push(client.add(number, 1).then((value) => order.push(Number(value))));
  }
  await Promise.all(calls);
  return {
    ping: await client.ping(),
    echo: [Number(echoed.id), echoed.name, echoed.numbers.map(Number), echoed.weights],
    defaults: [echoed.flag, echoed.colour],
    text: await client.text("x".repeat(100000)).then((text) => text.length),
    words: [...(await client.words())].sort(),
    paint: await client.paint(types.Colour.BLUE),
    declared: await failure(client.divide(1, 0)),
    internal: await failure(client.fail("a secret")),
    noted: await client.noted(),
    order,
  };
}

async function run(job) {
  const [connection, create, multiplexed] = connect(job);
  const broken = new Promise((_, reject) => connection.on("error", reject));
  const client = job.service === null ? create(Calculator, connection) : multiplexed(job.service);
  try {
    return await Promise.race([converse(client), broken]);
  } catch (error) {
    return { broken: String(error) };
  } finally {
    if (connection.end) connection.end();
  }
}

(async () => {
  const results = [];
  for (const job of JSON.parse(process.argv[2])) {
    results.push(await run(job));
  }
  process.stdout.write(JSON.stringify(results));
})();
