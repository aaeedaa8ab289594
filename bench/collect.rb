# Scrapes a multiprocess directory with the Ruby mmap client's own collector,
# which does the work in C. Speaks as collect.py does.
require 'json'
require 'prometheus/client'
require 'prometheus/client/formats/text'

$stdout.binmode
$stdin.each_line do
  start = Process.clock_gettime(Process::CLOCK_MONOTONIC)
  text = Prometheus::Client::Formats::Text.marshal_multiprocess(ARGV[0])
  seconds = Process.clock_gettime(Process::CLOCK_MONOTONIC) - start
  $stdout.write(JSON.generate({ seconds: seconds, bytes: text.bytesize }), "\n", text)
  $stdout.flush
end
