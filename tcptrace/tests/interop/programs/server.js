// A server of node: `server.js PORT [KEEP_ALIVE_MS]`.
const http = require('http');
const [port, keepAlive] = process.argv.slice(2).map(Number);
const big = Buffer.alloc(16 << 20, 'x');

const server = http.createServer((request, response) => {
  const [, what, argument] = request.url.split('/');
  if (what === 'big') return response.end(big);
  if (what === 'never') return;
  if (what === 'stream') {
    response.write('begin\n');
    const timer = setInterval(() => response.write('event\n'), 2000);
    const end = () => { clearInterval(timer); response.end(); };
    setTimeout(end, Number(argument) * 1000);
    response.on('close', end);
    return;
  }
  response.end('hello\n');
});
if (keepAlive) server.keepAliveTimeout = keepAlive;
server.on('upgrade', (_request, socket) => {
  socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n');
  socket.on('data', (data) => socket.write(data));
  socket.on('end', () => socket.end());
  socket.on('error', () => {});
});
server.listen(port, '127.0.0.1');
