# A worker that does with the unmodified Ruby mmap client what it is told, one
# JSON object per line: the same as worker.py, but for "id" and "modes".
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

$stdout.sync = true
$stdin.each_line do |line|
  op = JSON.parse(line)
  labels = (op['labels'] || {}).transform_keys(&:to_sym)
  case op['op']
  when 'sync' then puts Process.pid
  when 'inc' then metric(op).increment(labels, op['value'])
  when 'set' then metric(op).set(labels, op['value'])
  when 'observe' then metric(op).observe(labels, op['value'])
  else raise "no such op: #{op['op']}"
  end
end
