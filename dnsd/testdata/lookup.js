// lookup.js prints what node's resolvers say: those of the C library (lookup), and its own (resolve).
const dns = require('dns').promises
const all = async () => {
  const say = async (what, ask) => console.log(what, JSON.stringify(await ask().catch(e => e.code)))
  await say('lookup', async () => (await dns.lookup('web.shop.gear.internal', {all: true})).map(a => a.address).sort())
  await say('resolve4', async () => (await dns.resolve4('web.shop.gear.internal')).sort())
  await say('resolve6', async () => dns.resolve6('web.shop.gear.internal'))
  await say('srv', async () => (await dns.resolveSrv('_http._tcp.web.shop.gear.internal')).map(s => s.name + ':' + s.port).sort())
  await say('txt', async () => dns.resolveTxt('n1.host.gear.internal'))
  await say('reverse', async () => dns.reverse('192.0.2.1'))
  await say('soa', async () => (await dns.resolveSoa('gear.internal')).hostmaster)
  await say('nodata', async () => dns.resolve4('idle.shop.gear.internal'))
  await say('missing', async () => dns.resolve4('nope.shop.gear.internal'))
  await say('big', async () => (await dns.resolve4('s.p.gear.internal')).length)
}
all()
