#!/usr/bin/perl
# `piehole upload-pack` and `piehole http-backend`, started in 2 ms instead of 25: a fetch waits for it. It asks the controller, which knows
# everything, and leaves to piehole what it cannot ask (no controller answers). Copy it to /usr/local/lib/piehole/upload-pack, and to
# /usr/local/lib/piehole/http-backend for the web server's CGI; its name says which of the two it is. It needs no modules of Perl: strict
# and warnings would cost each fetch 2 ms, so tests/deploy has Perl check it with both.

my $http = $0 =~ /http-backend$/;
my $ask  = !$http && @ARGV && $ARGV[0] eq '--ask';
my @ours = $http ? 'http-backend' : 'upload-pack';
my ( $path, $service ) = ( '', '' );
if ($http) {
	my $root = $ENV{GIT_PROJECT_ROOT} // '';
	my $full = $root ne '' ? "$root/" . ( $ENV{PATH_INFO} // '' ) : $ENV{PATH_TRANSLATED} // '';
	($service) = ( $ENV{QUERY_STRING} // '' ) =~ /(?:^|&)service=([^&]*)/;
	$service //= '';
	my $reads = ( $ENV{REQUEST_METHOD} // '' ) =~ /^(?:GET|HEAD)$/ && $full =~ m{^(.*)/info/refs$}s;
	my $repository = $1;
	git() if !$reads || ( $service ne '' && $service ne 'git-upload-pack' ); # a push, or the rest of a fetch
	$path = $repository;
}
else {
	piehole() if !@ARGV || grep { $_ eq '--peer' } @ARGV;
	$path = $ARGV[-1];
}
git() if ( $ENV{GIT_PROTOCOL} // '' ) =~ /(?:^|:)piehole=peer(?::|$)/ || defined $ENV{HTTP_PIEHOLE_PEER}; # a peer's own fetch

# As git looks for it. What begins with ~ or is relative, and where no controller has announced itself, is left to piehole.
my $strict = grep { $_ eq '--strict' } @ARGV;
my ($dir) = grep { -e "$_/piehole/controller" } map { "$path$_" } $strict ? '' : ( '/.git', '', '.git/.git', '.git' );
piehole() if $path !~ m{^/} || !defined $dir || $dir =~ /[\n\r]/;
open my $pointer, '<', "$dir/piehole/controller" or piehole();
my $socket = <$pointer> // '';
chomp $socket;
socket( my $line, 1, 1, 0 ) or piehole(); # AF_UNIX, SOCK_STREAM
connect( $line, pack 'S a108', 1, $socket ) or piehole();
my ( undef, $owner ) = unpack 'i3', getsockopt( $line, 1, 17 ) // ''; # SO_PEERCRED
piehole() if !defined $owner || $owner != ( stat $dir )[4];
local $SIG{PIPE} = 'IGNORE';
syswrite $line, "gate\nrepository $dir\n\n" or piehole();
my ( $heard, $seconds ) = ( '', 1 );
while ( $heard !~ /\n\n.*\n\n/s ) {
	my $ready = '';
	vec( $ready, fileno $line, 1 ) = 1;
	select( $ready, undef, undef, $seconds ) > 0 && sysread( $line, $heard, 65536, length $heard ) or piehole();
	$seconds = 0.6 * $1 if $heard =~ /^here 1 ([0-9.]+)\n\n/;
}
my ( $state, $sentence ) = $heard =~ /\n\n(\S+) \d+ \d+ ?(.*)\n\n/ or piehole();
git() if $state eq 'off' || $state eq 'fresh';
piehole() if $state ne 'warn' && $state ne 'refuse';
my $words = "piehole: behind: $sentence\n";
print STDERR $words if $http || $ask || $state eq 'warn';
exit 1 if $ask && $state eq 'refuse';
if ( $state eq 'warn' ) {
	syswrite STDOUT, "Piehole-Behind: " . $sentence =~ s/[^ -~]/?/gr . "\r\n" if $http;
	git();
}
my $refused = packet("ERR $words");
if ( $http && $service eq '' ) {
	$refused = "Status: 503 Service Unavailable\r\nContent-Type: text/plain\r\nCache-Control: no-cache\r\n\r\n$words";
}
elsif ($http) {
	my $head = "Content-Type: application/x-git-upload-pack-advertisement\r\nCache-Control: no-cache\r\n\r\n";
	$refused = $head . packet("# service=git-upload-pack\n") . "0000$refused";
}
syswrite STDOUT, $refused;
exit !$http;

sub packet { sprintf( '%04x', 4 + length $_[0] ) . $_[0] }
sub git { exit 0 if $ask; exec 'git', @ours, @ARGV or die "piehole: git cannot be run: $!\n" }

sub piehole {
	my ($beside) = $0 =~ m{^(.*)/[^/]*$};
	my $program = defined $beside && -x "$beside/piehole" ? "$beside/piehole" : 'piehole';
	exec $program, @ours, @ARGV or die "piehole: $program cannot be run: $!\n";
}
