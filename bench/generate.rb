# Writes the value files of many writers with the Ruby mmap client itself.
#
# Reads on stdin, as JSON, what to write (see generatePeer in generate.go), and
# answers with the sums of the values: for each key, and for each writer. It
# knows counters only. The argument is the directory.
#
# One process plays all the writers, one after the other: with a new id each, and
# new files for all metrics, as after a fork.
require 'json'
require 'logger'
require 'prometheus/client'

order = JSON.parse($stdin.read)
writer = order['writers'].first
Prometheus::Client.configure do |config|
  config.multiprocess_files_dir = ARGV[0]
  config.logger = Logger.new($stderr)
  config.pid_provider = -> { writer }
end

# What the Python client appends to a counter's name is part of it here.
cells = order['families'].flat_map do |family|
  counter = Prometheus::Client.registry.counter(:"#{family['name']}_total", family['help'])
  names = family['label_names'].map(&:to_sym)
  family['labels'].map { |values| [counter, names.zip(values).to_h] }
end

rand = Random.new(order['seed'])
sums = Array.new(cells.size, 0)
writers = order['writers'].each_with_index.map do |id, nth|
  writer = id
  Prometheus::Client::MmapedValue.reset_and_reinitialize if nth.positive?
  total = 0
  cells.each_with_index do |(counter, labels), i|
    value = rand.rand(order['max_value'])
    counter.increment(labels, value)
    sums[i] += value
    total += value
  end
  total
end
puts JSON.generate({ sums: sums, writers: writers })
