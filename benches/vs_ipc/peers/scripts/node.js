// Messages over the channel of child_process.fork: node -e THIS VARIANT JOB. The child is given the same.
'use strict';
const [variant, jobText] = process.argv.slice(-2);
const { kind, size, placement, warm_up, count } = JSON.parse(jobText);
const stretches = [warm_up, count];

function check(message, nth) {
  if (message.id !== nth || message.kind !== 'data' || message.payload.length !== size) {
    throw new Error(`message ${message.id} where ${nth} was due`);
  }
}

// Ends when the channel does.
function serve() {
  let received = 0;
  let left = stretches.shift();
  const done = () => {
    received += 1;
    if (received === left) {
      received = 0;
      left = stretches.shift();
      if (kind !== 'ping-pong') process.send('done');
    }
  };
  process.on('message', (message, handle) => {
    if (kind === 'descriptors') {
      if (!handle) throw new Error('a message without its handle');
      handle.close();
    } else {
      check(message, received);
      if (kind === 'ping-pong') process.send(message);
    }
    done();
  });
}

function measure() {
  // A copy: fork takes -e and this script out of the original.
  const options = { serialization: variant, execArgv: [...process.execArgv] };
  if (placement && placement.child !== placement.parent) {
    options.execPath = 'taskset';
    options.execArgv = ['-c', String(placement.child), process.execPath, ...options.execArgv];
  }
  const child = require('node:child_process').fork('child', [variant, jobText], options);
  child.on('exit', (code) => {
    if (code !== 0) process.exit(1);
  });
  const payload = variant === 'json' ? 'x'.repeat(size) : Buffer.alloc(size, 'x');
  const message = { id: 0, kind: 'data', payload };

  const pingPong = (wanted, done) => {
    message.id = 0;
    child.on('message', function answered(answer) {
      check(answer, message.id);
      message.id += 1;
      if (message.id < wanted) return child.send(message);
      child.off('message', answered);
      done();
    });
    child.send(message);
  };

  // Sends until told that much is queued, then lets the event loop write.
  const oneWay = (wanted, done, send) => {
    child.once('message', done);
    let sent = 0;
    const more = () => {
      while (sent < wanted) {
        const nth = sent;
        sent += 1;
        if (!send(nth)) return setImmediate(more);
      }
    };
    more();
  };

  const run = (done) => {
    const wanted = stretches.shift();
    if (kind === 'ping-pong') return pingPong(wanted, done);
    if (kind === 'one-way') {
      return oneWay(wanted, done, (nth) => {
        message.id = nth;
        return child.send(message);
      });
    }
    return oneWay(wanted, done, () => child.send('x', server, { keepOpen: true }));
  };

  const both = () => {
    run(() => {
      const begin = process.hrtime.bigint();
      run(() => {
        const seconds = Number(process.hrtime.bigint() - begin) / 1e9;
        console.log(JSON.stringify({ seconds }));
        if (server) server.close();
        child.disconnect();
      });
    });
  };
  const server = kind === 'descriptors' ? require('node:net').createServer() : undefined;
  if (server) server.listen(0, '127.0.0.1', both);
  else both();
}

if (process.send) serve();
else measure();
