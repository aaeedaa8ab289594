# A worker that does with the unmodified Ruby mmap client what it is told, one
# JSON object per line: the same as worker.py, but for "id", "modes" and "close".
require 'json'
require 'prometheus/client'

@registry = Prometheus::Client.registry

def metric(op)
  name = op['name'].to_sym
  @registry.get(name) || case op['type']
                         when 'counter' then @registry.counter(name, 'Written by a test.')
                         when 'gauge' then @registry.gauge(name, 'Written by a test.', {}, op['mode'].to_sym)
                         when 'summary' then @registry.summary(name, 'Written by a test.')
                         when 'histogram' then @registry.histogram(name, 'Written by a test.', {}, op['bounds'])
                         else raise "no such type: #{op['type']}"
                         end
end

def write(op)
  labels = (op['labels'] || {}).transform_keys(&:to_sym)
  case op['op']
  when 'inc' then metric(op).increment(labels, op['value'])
  when 'set' then metric(op).set(labels, op['value'])
  when 'observe' then metric(op).observe(labels, op['value'])
  else raise "no such op: #{op['op']}"
  end
end

def fork_child(written)
  wake, woken = IO.pipe
  # A signal handler may not take the locks that writing needs.
  trap('USR1') { woken.write('x') }
  fork do
    [$stdin, $stdout, $stderr].each { |io| io.reopen(File::NULL, 'r+') } # its parent's output ends with its parent
    written.each { |op| write(op) } while wake.read(1)
  end
end

written = []
$stdout.sync = true
$stdin.each_line do |line|
  op = JSON.parse(line)
  case op['op']
  when 'sync' then puts Process.pid
  when 'exec' then exec('cat')
  when 'fork' then puts fork_child(written)
  else
    written << op
    write(op)
  end
end
