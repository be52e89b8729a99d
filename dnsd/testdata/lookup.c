/* lookup prints the addresses of each name, as the C library finds them: one name a line, or its error. */
#define _POSIX_C_SOURCE 200809L
#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <sys/socket.h>

int main(int argc, char **argv) {
	for (int i = 1; i < argc; i++) {
		struct addrinfo *list = NULL, hints = {.ai_socktype = SOCK_STREAM};
		int err = getaddrinfo(argv[i], NULL, &hints, &list);
		printf("%s", argv[i]);
		if (err)
			printf(" %s", err == EAI_NONAME ? "no name" : gai_strerror(err));
		for (struct addrinfo *a = list; a; a = a->ai_next) {
			char text[INET6_ADDRSTRLEN];
			if (getnameinfo(a->ai_addr, a->ai_addrlen, text, sizeof text, NULL, 0, NI_NUMERICHOST) == 0)
				printf(" %s", text);
		}
		printf("\n");
		if (list)
			freeaddrinfo(list);
	}
	return 0;
}
